"""The live view: one static page, and newest frames for as many browsers as look at it."""
