"""Pages for the duty desk and the big screen."""

from console.application import attach

__all__ = ["attach"]
