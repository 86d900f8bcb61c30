"""Small trained models that come along: NAME.safetensors in half precision, and its card, NAME.toml."""
