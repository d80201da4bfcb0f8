"""CACE-Net (ACM MM 2024)."""
