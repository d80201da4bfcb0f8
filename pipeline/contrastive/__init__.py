"""InfoNCE fine-tuning of a visual encoder against a frozen audio encoder (He et al., "CACE-Net", ACM MM 2024, Sec. 3.4)."""
