"""The service: camera frames in over ZeroMQ, denoised, out over ZeroMQ, with an HTTP sidecar."""
