"""Payload formats, one file each: topic and bytes in, columns or a refusal out."""
