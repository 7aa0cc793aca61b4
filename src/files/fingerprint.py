"""A run's fingerprint: what decides its weights, as plain numbers and strings, and nothing else.

Networks and losses of this package are named with their settings. Those of a user are hashed by what decides them:
initial weights, attributes and code. What cannot be told from another is refused.
"""

import hashlib
import sys
import types
from functools import partial

import torch
from torch import Tensor, nn

PLAIN = (str, int, float, bool, bytes, type(None))


def network_fingerprint(model: nn.Module) -> dict:
    """{"class": "src.unet.UNet", **config} for ours; for others hashes of initial weights, attributes and code.

    The initial weights are kept on the model, so that a trained one still names, and begins with, what it began with.
    """
    name = f"{type(model).__module__}.{type(model).__qualname__}"
    if name.startswith("src.") and hasattr(model, "config"):
        return {"class": name, **model.config}
    if not hasattr(model, "initial_weights"):
        model.initial_weights = {key: value.detach().clone() for key, value in model.state_dict().items()}
    return {"class": name, "initial_weights": weights_sha256(model.initial_weights), "code": content_sha256(model)}


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


def weights_sha256(weights: dict[str, Tensor]) -> str:
    """sha256 over the names, types, shapes and values of a state_dict."""
    hashed = hashlib.sha256()
    for name, tensor in weights.items():
        hashed.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        hashed.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()


def content_sha256(value: object) -> str:
    """16 hex digits of the sha256 of a value's content; a module's parameters are not part of it."""
    try:
        described = _module(value) if isinstance(value, nn.Module) else _described(value)
    except RecursionError:
        raise ValueError("functions that call each other in a circle cannot be told from others; write one") from None
    return hashlib.sha256(repr(described).encode()).hexdigest()[:16]


def _module(model: nn.Module) -> list:
    """Of each submodule: attributes, what is frozen, and the content of classes that are no library's."""
    parts = []
    for name, module in model.named_modules():
        attributes = {key: value for key, value in vars(module).items() if key[0] != "_" and key != "training"}
        attributes.pop("initial_weights", None)
        own = [vars(cls).items() for cls in type(module).__mro__[:-1] if not _of_a_library(cls.__module__)]
        content = [(key, value) for items in own for key, value in sorted(items)
                   if key[:2] != "__" or isinstance(value, types.FunctionType)]  # fmt: skip
        parts += [name, type(module).__qualname__, _described(content)]
        parts += [[p.requires_grad for p in module.parameters(recurse=False)]]
        parts += [[key, _described(value)] for key, value in sorted(attributes.items())]
    return parts


def _described(value: object) -> object:
    """A value by its content, never by its address in memory; ValueError where that cannot be had."""
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, (torch.dtype, torch.device, types.ModuleType, type, types.BuiltinFunctionType)):
        return getattr(value, "__qualname__", getattr(value, "__name__", str(value)))
    if isinstance(value, (tuple, list, set, frozenset)):
        return [_described(item) for item in (value if isinstance(value, (tuple, list)) else sorted(value, key=repr))]
    if isinstance(value, dict):
        return [[_described(key), _described(item)] for key, item in value.items()]
    if torch.is_tensor(value):
        return weights_sha256({"": value})
    if isinstance(value, nn.Module):
        return [weights_sha256(value.state_dict()), _module(value)]
    if isinstance(value, partial):
        return [_described(value.func), _described(value.args), _described(value.keywords)]
    if isinstance(value, types.MethodType):
        return [_described(value.__func__), _described(value.__self__)]
    if isinstance(value, (staticmethod, classmethod)):
        return _described(value.__func__)
    if isinstance(value, property):
        return _described((value.fget, value.fset))
    if isinstance(value, types.FunctionType):
        return f"{value.__module__}.{value.__qualname__}" if _of_a_library(value.__module__) else _code(value)
    raise ValueError(
        f"{type(value).__qualname__} decides a run's weights and cannot be told from another of its kind, expected "
        "numbers, tensors, functions or modules; write the loss or the network with those"
    )


def _of_a_library(module: str | None) -> bool:
    """Whether things of a module are named by their name alone; those of a user are named by their content."""
    top = (module or "").partition(".")[0]
    installed = "site-packages" in (getattr(sys.modules.get(top), "__file__", None) or "")
    return top != "__main__" and (top in sys.stdlib_module_names or top == "src" or installed)


def _code(function: types.FunctionType) -> list:
    """Bytecode, constants, defaults, closure, and the plain globals and own functions that are used."""
    constants = [_code_object(c) if isinstance(c, types.CodeType) else repr(None if c == function.__doc__ else c)
                 for c in function.__code__.co_consts]  # fmt: skip
    cells = [cell.cell_contents for cell in function.__closure__ or () if not isinstance(cell.cell_contents, type)]
    names = _names(function.__code__)
    used = [function.__globals__[name] for name in names if name in function.__globals__]
    modules = [value for value in used if isinstance(value, types.ModuleType) and not _of_a_library(value.__name__)]
    used += [getattr(module, name) for module in modules for name in names if hasattr(module, name)]
    used = [value for value in used if value is not function]
    return [function.__code__.co_code, constants, function.__code__.co_names,
            _described(function.__defaults__ or ()), _described(cells), _described(used)]  # fmt: skip


def _names(code: types.CodeType) -> list[str]:
    """The names that a function uses, those of its lambdas and comprehensions too."""
    return [*code.co_names, *(name for c in code.co_consts if isinstance(c, types.CodeType) for name in _names(c))]


def _code_object(code: types.CodeType) -> list:
    constants = [_code_object(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    return [code.co_code, code.co_names, constants]
