"""What a student can be asked: explanations and the signals that strategies select by."""

from .codec import Codec
from .student import Student


__all__ = ["Codec", "Student"]
