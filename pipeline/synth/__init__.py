"""The demo world: procedural sounds and moving pictures, written as real MP4 files with exactly known truth."""
