"""nano: a small BiRefNet, trained on scenes with exact alpha; its runs are in nano.json."""
