"""Networks of localization before HAN, re-imagined for parsing: CoLeaF's first two rows on LLP."""
