"""CACE-Net (MM 2024) on untrimmed videos."""
