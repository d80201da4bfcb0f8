"""DAM-style localization (``dam_localization``) and cross-modality localization (``dam``)."""
