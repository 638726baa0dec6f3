"""What an export reports of each of its files."""

from dataclasses import dataclass

from lcc_tf.exporting.agreement import Agreement


@dataclass(frozen=True)
class ExportedFile:
    """A file, or a folder that is loaded as one, that was written and checked."""

    name: str
    size: int  # bytes
    agreement: Agreement

    def __str__(self) -> str:
        return f"{self.size / 1e6:.1f} MB: {self.agreement}"
