"""DHHN (ACM MM 2022)."""
