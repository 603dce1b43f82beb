"""Learned peers of SCGN, one file each, written from their papers at SCGN's scale."""
