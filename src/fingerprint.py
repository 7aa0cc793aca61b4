"""A run's fingerprint: what decides its weights, as plain numbers and strings, and nothing else.

Networks and losses of this package are named with their settings. Those of a user are hashed by what decides them:
initial weights, attributes and code (files/hashing.py). What cannot be told from another is refused.
"""

from torch import nn

from src.files.hashing import content_sha256, weights_sha256


def network_fingerprint(model: nn.Module) -> dict:
    """{"class": "src.unet.UNet", **config} for ours; for others hashes of initial weights, attributes and code.

    The hash of the initial weights is kept on the model, so that a trained one still names what it started from.
    """
    name = f"{type(model).__module__}.{type(model).__qualname__}"
    if name.startswith("src.") and hasattr(model, "config"):
        return {"class": name, **model.config}
    if not hasattr(model, "initial_weights_sha256"):
        model.initial_weights_sha256 = weights_sha256(model.state_dict())
    return {"class": name, "initial_weights": model.initial_weights_sha256, "code": content_sha256(model)}


def loss_fingerprint(loss) -> object:
    """A loss's name, or for one of the user's own a name and the hash of its code."""
    if isinstance(loss, str):
        return loss
    return {"name": getattr(loss, "__qualname__", type(loss).__qualname__), "code": content_sha256(loss)}


def differences(stored: object, wanted: object, path: str = "") -> list[str]:
    """A line for each field in which two fingerprints differ."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        names = [*stored, *(name for name in wanted if name not in stored)]
        pairs = [(f"{path}.{name}" if path else name, stored.get(name), wanted.get(name)) for name in names]
        return [line for name, a, b in pairs for line in differences(a, b, name)]
    return [] if stored == wanted else [f"{path} is {stored}, not {wanted}"]
