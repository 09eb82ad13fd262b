"""nano: a small BiRefNet, trained for 72 minutes on one core on scenes with exact alpha."""
