"""Raw file -> frames and waveform at the requested times, surviving every bad file.

Imports no torch, so that child processes start fast.
"""
