"""nano: a small BiRefNet, trained in half an hour on two cores on scenes with exact alpha."""
