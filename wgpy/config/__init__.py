"""Configuration files: wg-quick's .conf and wgpy's TOML, read into one typed model."""
