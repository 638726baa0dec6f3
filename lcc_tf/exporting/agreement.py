"""Agreement of an exported model (an export) with the Keras model from which it was converted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Minimum fraction of pixels with the same class, for formats that store all weights as float32
FLOAT_FRACTION = 0.999


class AgreementError(RuntimeError):
    """Error for an export that differs too much from the Keras model."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of the probabilities of an export with the probabilities of the Keras model.

    Attributes:
        max_difference: maximum absolute difference of two probabilities.
        fraction: fraction of pixels with the same class.
        num_pixels: number of compared pixels.
    """

    max_difference: float
    fraction: float
    num_pixels: int

    def __str__(self) -> str:
        return (
            f"same class as Keras on {100 * self.fraction:.3f} % of {self.num_pixels:,} pixels, "
            f"maximum difference of a probability {self.max_difference:.1e}"
        )

    @classmethod
    def of(cls, received: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> "Agreement":
        """Compares the probabilities that export and Keras model predict for the same images.

        Args:
            received: probabilities of the export, one float array `(..., num_classes)` per image.
            expected: probabilities of the Keras model, one float array `(..., num_classes)` per
                image.

        Raises:
            AgreementError: the shapes of two arrays differ.
        """
        pairs = list(zip(received, expected, strict=True))
        for array, reference in pairs:
            if array.shape != reference.shape:
                raise AgreementError(
                    "The probabilities of the export and of the Keras model must have the same "
                    f"shape. Received: {array.shape} instead of {reference.shape}."
                )
        same = [(array.argmax(-1) == reference.argmax(-1)).ravel() for array, reference in pairs]
        differences = [np.abs(array - reference).max() for array, reference in pairs]
        return cls(
            max_difference=float(np.max(differences)),  # NaN if any difference is NaN
            fraction=float(np.concatenate(same).mean()),
            num_pixels=sum(map(len, same)),
        )

    def require(self, name: str, *, min_fraction: float, max_difference: float) -> None:
        """Checks that the agreement is high enough.

        Args:
            name: name of the export, for the error message.
            min_fraction: minimum fraction of pixels with the same class.
            max_difference: maximum absolute difference of two probabilities.

        Raises:
            AgreementError: the agreement is too low, or a probability is NaN.
        """
        # The condition has the form `not (...)` because any comparison with NaN is False.
        if not (self.fraction >= min_fraction and self.max_difference <= max_difference):
            raise AgreementError(
                f"{name} differs too much from the Keras model: {self}. Required: the same class "
                f"on {100 * min_fraction:g} % of the pixels or more, and a maximum difference of a "
                f"probability of {max_difference:g} or less."
            )


@dataclass(frozen=True)
class ExportedFile:
    """Exported file, or exported folder, that was compared with the Keras model.

    Attributes:
        name: name of the file; for a folder, the name of its main file.
        size: size of the file or of the whole folder, bytes.
        agreement: agreement with the Keras model.
    """

    name: str
    size: int
    agreement: Agreement

    def __str__(self) -> str:
        return f"{self.size / 1e6:.1f} MB: {self.agreement}"
