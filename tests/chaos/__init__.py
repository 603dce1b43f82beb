"""A real service, a camera and a viewer that know the truth, and everything that may go wrong."""
