"""What a student can be asked: explanations, labels, and the signals that strategies select by."""

from .classifier import Classifier
from .codec import Codec
from .student import Student


__all__ = ["Classifier", "Codec", "Student"]
