"""
How objects, and above all functions, become bytes or names and come back.

Plain pickle is tried first; what it can't do, and what belongs to ``__main__``, is pickled by
value with cloudpickle.
"""

from __future__ import annotations

import functools
import importlib
import io
import pickle
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, final

import cloudpickle  # type: ignore[import-untyped]

from daglite.exceptions import SerializationError, describe

__all__ = [
    "dumps",
    "dumps_apart",
    "dumps_function",
    "function_from_state",
    "function_state",
    "import_string",
    "loads",
    "to_import_string",
]

_PROTOCOL = 5


# -- names --------------------------------------------------------------------


def import_string(path: str) -> Any:
    """
    What *path* names: ``"package.module:name"``, or ``"package.module:Class.name"``.

    Raises:
        SerializationError: It's no such path, or nothing can be found there.
    """
    module_name, colon, qualname = path.partition(":")
    names = qualname.split(".")
    if not colon or not all(name.isidentifier() for name in (*module_name.split("."), *names)):
        raise SerializationError(
            f"{path!r} names nothing that can be imported; write 'package.module:name'"
        )
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise SerializationError(
            f"{path!r} can't be loaded: importing {module_name!r} failed ({describe(error)})"
        ) from error
    so_far = module_name
    for name in names:
        try:
            found = getattr(found, name)
        except AttributeError as error:
            raise SerializationError(
                f"{path!r} can't be loaded: {so_far!r} has no {name!r}; "
                f"was it renamed, or is another version installed here?"
            ) from error
        so_far = f"{so_far}.{name}"
    return found


def to_import_string(obj: object) -> str:
    """
    The path by which `import_string` finds *obj* again, in any process.

    Raises:
        SerializationError: There is none: for lambdas, functions inside functions,
            what is defined in ``__main__``, and objects that aren't found under their own name.
    """
    path = _checked_path(obj)
    found = import_string(path)
    # A class method is made anew each time that it is looked up.
    if found is obj or (isinstance(obj, types.MethodType) and found == obj):
        return path
    raise SerializationError(
        f"{path!r} names {_shown(found)} and not {_shown(obj)}: it has been replaced or decorated "
        f"there; give it a name of its own in the module"
    )


def _checked_path(obj: object) -> str:
    """The path that *obj* says it has."""
    module_name = getattr(obj, "__module__", None)
    qualname = getattr(obj, "__qualname__", None)
    if not isinstance(module_name, str) or not isinstance(qualname, str):
        raise SerializationError(
            f"{_shown(obj)} has no name to import it by; only classes and functions have"
        )
    if "<lambda>" in qualname:
        raise SerializationError(
            f"a lambda of module {module_name!r} has no name to import it by; "
            f"write a function at the top of the module"
        )
    if "<locals>" in qualname:
        raise SerializationError(
            f"{qualname!r} is defined inside a function, where it can't be imported from; "
            f"move it to the top of module {module_name!r}"
        )
    if module_name == "__main__":
        raise SerializationError(
            f"{qualname!r} is defined in __main__, which is another module in every process; "
            f"move it to a module that can be imported"
        )
    return f"{module_name}:{qualname}"


# -- bytes --------------------------------------------------------------------


class _Inside(threading.local):
    """Whether this thread is inside `dumps`."""

    dumps = False


_inside = _Inside()


def dumps(value: object, *, label: str = "value") -> bytes:
    """
    *value* as bytes, for `loads`.

    *label* is what messages call it.

    Raises:
        SerializationError: Neither pickle nor cloudpickle can do it.
    """
    return _told(value, label, None)


def dumps_apart(value: object, apart: list[pickle.PickleBuffer], *, label: str = "value") -> bytes:
    """
    The same, with large buffers (of arrays, say) left beside the bytes, and not copied.

    Args:
        value: What to dump.
        apart: Takes the buffers, in the order in which ``pickle.loads(..., buffers=)`` wants them.
        label: What messages call it.

    Raises:
        SerializationError: Neither pickle nor cloudpickle can do it.
    """
    return _told(value, label, apart)


def _told(value: object, label: str, apart: list[pickle.PickleBuffer] | None) -> bytes:
    """Dump *value*; say what is wrong if that can't be."""
    outside = not _inside.dumps
    _inside.dumps = True
    try:
        return _dumps(value, apart)
    except Exception as error:
        path, culprit = _culprit(value, label)
        where = "" if path == label else f": {path} is {_shown(culprit)}"
        raise SerializationError(
            f"{label}, {_shown(value)}, can't be pickled{where} ({describe(error)}); "
            f"make it inside the task, or pass what it is made from"
        ) from error
    finally:
        if outside:
            _inside.dumps = False


def _dumps(value: object, apart: list[pickle.PickleBuffer] | None = None) -> bytes:
    keep = None if apart is None else apart.append
    try:
        data = pickle.dumps(value, _PROTOCOL, buffer_callback=keep)
    except Exception:
        # Its reason is of no use: it knows less than cloudpickle.
        data = None
    # __main__ is another module in every process: what it defines must go along.
    if data is None or b"__main__" in data:
        if apart is not None:
            apart.clear()
        return _by_value(value, keep)
    return data


def _by_value(value: object, keep: Callable[[pickle.PickleBuffer], object] | None = None) -> bytes:
    data: bytes = cloudpickle.dumps(value, protocol=_PROTOCOL, buffer_callback=keep)
    return data


def loads(data: bytes | bytearray | memoryview, *, label: str = "value") -> Any:
    """
    What `dumps` was given.

    Raises:
        SerializationError: The bytes are damaged, or something in them can't be found or made here.
    """
    try:
        return pickle.loads(data)
    except SerializationError:
        raise
    except Exception as error:
        raise SerializationError(
            f"{label} can't be loaded from its pickle ({describe(error)}); "
            f"is the same code installed on both sides?"
        ) from error


# -- functions ----------------------------------------------------------------

State = tuple[str, Any]


def function_state(func: Any) -> State:
    """
    *func* as something that any pickler can do, for `function_from_state`.

    A decorator such as ``@task`` puts its own object in the place of the function, where pickle
    then looks for the function in vain; so what is stored is the place.
    """
    try:
        path = _checked_path(func)
        found = import_string(path)
    except SerializationError:
        path, found = "", None
    if found is func:
        return "function", func
    if path and getattr(found, "func", None) is func:
        return "func of", path
    # Inside our own dumps it is pickled with the rest, and each function once: a function may
    # refer to its own task, or many to each other's.
    if _inside.dumps:
        return "function", func
    return "pickle", dumps(func, label="function")


def function_from_state(state: State) -> Any:
    """
    The function that `function_state` was given.

    Raises:
        SerializationError: It isn't there, or can't be loaded.
    """
    kind, content = state
    if kind == "function":
        return content
    if kind == "pickle":
        return loads(content, label="function")
    found = import_string(content)
    try:
        return found.func
    except AttributeError as error:
        raise SerializationError(
            f"{content!r} was a task where this was pickled, and here it is {_shown(found)}; "
            f"is the same code installed on both sides?"
        ) from error


@final
class _ByPlace(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles what a decorator has put its own object in the place of by that place."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is types.FunctionType:
            kind, content = function_state(obj)
            if kind == "func of":
                return function_from_state, ((kind, content),)
        return super().reducer_override(obj)


def dumps_function(func: Callable[..., Any]) -> bytes:
    """
    *func* as bytes for `loads`, in another process too.

    What can be imported there is, also the function of a task; the rest goes along: it is a
    snapshot of what the function refers to now.

    Raises:
        SerializationError: It refers to something that can't be pickled.
    """
    file = io.BytesIO()
    outside = not _inside.dumps
    _inside.dumps = True
    try:
        _ByPlace(file, protocol=_PROTOCOL).dump(func)
    except Exception as error:
        path, culprit = _culprit(func, "function")
        where = "" if path == "function" else f": {path} is {_shown(culprit)}"
        raise SerializationError(
            f"{_shown(func)} can't be pickled{where} ({describe(error)}); make what it needs "
            "inside of it, or pass it as an argument"
        ) from error
    finally:
        if outside:
            _inside.dumps = False
    return file.getvalue()


# -- who is to blame ----------------------------------------------------------

_MOST_PARTS = 1_000
_DEEPEST = 8


def _culprit(value: object, path: str) -> tuple[str, object]:
    """The innermost part of *value* that can't be pickled either, as far as it's easily found."""
    try:
        for _ in range(_DEEPEST):
            bad = (part for part in _parts(value, path) if not _can_be_pickled(part[1]))
            path, value = next(bad)
    except Exception:
        # No part is to blame, or one doesn't let itself be looked at: this is as far as we see.
        pass
    return path, value


def _can_be_pickled(value: object) -> bool:
    try:
        _by_value(value)
    except Exception:
        return False
    return True


def _parts(value: Any, path: str) -> Iterator[tuple[str, object]]:
    """Path and object of what *value* is made of; of large containers the first parts."""
    if isinstance(value, Mapping):
        for _, (key, item) in zip(range(_MOST_PARTS), value.items(), strict=False):
            yield f"{path}[{_shown(key)}]", item
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value[:_MOST_PARTS]):
            yield f"{path}[{index}]", item
    elif isinstance(value, functools.partial):
        yield f"{path}.func", value.func
        yield from _parts(value.args, f"{path}.args")
        yield from _parts(value.keywords, f"{path}.keywords")
    elif isinstance(value, types.MethodType):
        yield f"{path}.__self__", value.__self__
    elif isinstance(value, types.FunctionType):
        for name, captured in _captured(value):
            yield f"{path}<{name}>", captured
    elif not isinstance(value, (type, types.ModuleType)):
        for name, item in _fields(value):
            yield f"{path}.{name}", item


def _captured(func: types.FunctionType) -> Iterator[tuple[str, object]]:
    """Variables of an enclosing function, then of the module, that *func* refers to."""
    for name, cell in zip(func.__code__.co_freevars, func.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:
            # Not assigned yet.
            continue
    for name in func.__code__.co_names:
        if name in func.__globals__:
            yield name, func.__globals__[name]


def _fields(value: object) -> Iterator[tuple[str, object]]:
    """Attributes that *value* itself holds."""
    fields = getattr(value, "__dict__", {})
    yield from [item for item in fields.items() if isinstance(item[0], str)]
    for owner in type(value).__mro__:
        for name, descriptor in owner.__dict__.items():
            if isinstance(descriptor, types.MemberDescriptorType):
                try:
                    yield name, descriptor.__get__(value)
                except AttributeError:
                    # Not set.
                    continue


def _shown(value: object) -> str:
    """*value* in a message."""
    if isinstance(value, (str, int, float, bool, types.NoneType)):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:57]}..."
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType)):
        return f"the {type(value).__name__} {value.__qualname__!r}"
    return f"an object of type {type(value).__module__}.{type(value).__qualname__}"
