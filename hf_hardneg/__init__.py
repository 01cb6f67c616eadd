"""Hard-negative mining that lives inside Hugging Face `datasets`."""
