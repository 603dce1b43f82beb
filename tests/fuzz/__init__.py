"""Fuzzing: nothing that comes in makes a part of the service crash, or raise what is not named.

    python -m tests.fuzz wire --messages 1000000 --seed 1       the decoder and the ingest
    python -m tests.fuzz calibrations --files 10000 --seed 1    every reader of calibration files
    python -m tests.fuzz again                                  whatever was found before
    python -m tests.fuzz corpus                                 write corpus/ anew
    python -m tests.fuzz.guided wire --seconds 600              by coverage, with atheris
    python -m tests.fuzz keep wire FILE                         what that failed on, into found/

A short run of each is in test_fuzz.py, which also tries everything in found/ again: what a long
run finds is kept there, under the name of the harness that it came from.
"""
