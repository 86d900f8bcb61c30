"""What judge and contestants share in using torch."""
