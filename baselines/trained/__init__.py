"""Small trained models that ship with the package: NAME.safetensors (float16) and its card, NAME.toml."""
