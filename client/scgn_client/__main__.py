"""`python -m scgn_client`, the same as `scgn-client`."""

from scgn_client.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
