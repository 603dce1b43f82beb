"""Proof of a calibration: do posted references belong to these frames, and lying which way?"""
