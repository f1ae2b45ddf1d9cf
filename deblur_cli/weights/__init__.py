"""What the tool can run, and its files: from a name in the manifest to verified bytes on the disk. Knows no torch."""

from deblur_cli.weights.entries import Manifest, ModelEntry, WeightsFile
from deblur_cli.weights.fetching import Fetched, fetch
from deblur_cli.weights.manifest import find_model, has_model, manifest_path, read_manifest

__all__ = [
    "Fetched",
    "Manifest",
    "ModelEntry",
    "WeightsFile",
    "fetch",
    "find_model",
    "has_model",
    "manifest_path",
    "read_manifest",
]
