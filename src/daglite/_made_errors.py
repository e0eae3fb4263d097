"""
Errors of a type that is made on the fly: ours, and the original's too.

A made class carries what an instance of the original's holds, wherever that is: ``args``,
``__dict__``, slots and the fields of C.  None of the original's own code runs meanwhile.
"""

import importlib
import pickle
import types
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, cast

__all__ = [
    "args_of",
    "attributes_of",
    "blank",
    "class_for",
    "derives",
    "dict_of",
    "imported",
    "members_of",
    "name_of",
    "packed_state",
    "set_cause",
]

_E = TypeVar("_E", bound=BaseException)

# Both sides weak, for the made class holds the original one: a class that nobody uses
# any more (of a reloaded module, a closed notebook cell) can go.
_classes: "weakref.WeakKeyDictionary[type, weakref.ref[type[Any]]]"
_classes = weakref.WeakKeyDictionary()


def derives(cls: type, base: type) -> bool:
    # Not issubclass: a metaclass may have its own idea of it.
    return any(each is base for each in cls.__mro__)


def class_for(original: type[BaseException], root: type[_E]) -> type[_E]:
    """The class of the error for an *original*; *root* where there can't be a special."""
    if issubclass(original, root):
        return original
    if not issubclass(original, Exception):
        return root
    if issubclass(original, (StopIteration, StopAsyncIteration)):
        return root
    if derives(root, original):
        return root
    known = _classes.get(original)
    cls: type[_E] | None = known() if known is not None else None
    if cls is None:
        try:
            cls = _made_class(original, root)
        except Exception:
            # A final class, a layout that doesn't fit, a metaclass that wants more, ...
            cls = root
        _classes[original] = weakref.ref(cls)
    return cls


def _made_class(original: type[Exception], root: type[_E]) -> type[_E]:
    name = f"{name_of(root)}[{name_of(original)}]"
    namespace: dict[str, Any] = {
        "__module__": root.__module__,
        "__qualname__": name,
        "__doc__": f"An {name_of(root)} that is a {name_of(original)} too.",
        "_made_from": original,
        # The original's class may have these refuse (a frozen dataclass) or wander off.
        "__getattribute__": object.__getattribute__,
        "__setattr__": object.__setattr__,
        "__delattr__": object.__delattr__,
        "__class__": object.__dict__["__class__"],
    }
    for owner in original.__mro__:
        if "message" in owner.__dict__:
            namespace["message"] = owner.__dict__["message"]
            break
    cls: type[_E] = types.new_class(
        name, (root, original), exec_body=lambda body: body.update(namespace)
    )
    return cls


def blank(
    cls: type[_E],
    args: tuple[Any, ...],
    attributes: Mapping[str, Any],
    members: Mapping[str, Any],
    facts: Any,
) -> _E:
    """An instance of *cls* with all of this in it, made without a call of its ``__init__``."""
    error = _allocated(cls, args)
    BaseException.__dict__["args"].__set__(error, args)
    dict_of(error).update(attributes, _facts=facts)
    for name, descriptor in _descriptors(cls):
        if name in members:
            try:
                descriptor.__set__(error, members[name])
            except Exception:
                # Read-only, or not to be set to what it says it is.
                continue
    set_cause(error, facts.original_exception)
    if cast(Any, error)._facts is not facts:
        raise TypeError(f"{name_of(cls)} hides the facts of an ExecutionError")
    return error


def _allocated(cls: type[_E], args: tuple[Any, ...]) -> _E:
    """A new instance from the first ``__new__`` that is written in C: the others are users'."""
    for owner in cls.__mro__:
        new = owner.__dict__.get("__new__")
        if isinstance(new, types.BuiltinFunctionType):
            try:
                return cast(_E, new(cls, *args))
            except TypeError:
                # Of a base whose instances are laid out in another way: a later one fits.
                continue
    raise TypeError(f"no way to make a {name_of(cls)} without its __init__")


def set_cause(error: BaseException, cause: BaseException | None) -> None:
    # Without a cause nothing is set, for that would hide the context.
    if cause is not None:
        BaseException.__dict__["__cause__"].__set__(error, cause)


def name_of(cls: type) -> str:
    # Not cls.__name__: a metaclass may have its own idea of it.
    return cast(str, type.__dict__["__name__"].__get__(cls))


def args_of(error: BaseException) -> tuple[Any, ...]:
    return cast("tuple[Any, ...]", BaseException.__dict__["args"].__get__(error))


def dict_of(error: BaseException) -> dict[str, Any]:
    return cast("dict[str, Any]", BaseException.__dict__["__dict__"].__get__(error))


def attributes_of(error: BaseException) -> dict[str, Any]:
    """The attributes in the ``__dict__`` of *error* that another one may take over."""
    # Notes stay where they are: a traceback shows them with the original.
    return {k: v for k, v in dict_of(error).items() if k not in ("_facts", "__notes__")}


def members_of(error: BaseException) -> dict[str, Any]:
    """The fields of *error* outside its ``__dict__``: those of C, and slots."""
    members = {}
    for name, descriptor in _descriptors(type(error)):
        try:
            members[name] = descriptor.__get__(error)
        except Exception:
            # Not set.
            continue
    return members


_NOT_TAKEN_OVER = {
    (Exception, "__weakref__"),
    # From these a traceback works out its "Did you mean ...?", at the end of our last line,
    # and for names from the variables of the function that raises: ours, not the task's.
    (NameError, "name"),
    (AttributeError, "obj"),
    (ImportError, "name_from"),
}


def _descriptors(cls: type) -> Iterator[tuple[str, Any]]:
    for owner in cls.__mro__:
        if owner in (Exception, BaseException, object):
            continue
        for name, value in owner.__dict__.items():
            if not isinstance(value, (types.MemberDescriptorType, types.GetSetDescriptorType)):
                continue
            if name not in ("__dict__", "__weakref__") and (owner, name) not in _NOT_TAKEN_OVER:
                yield name, value


def packed_state(
    args: tuple[Any, ...], attributes: dict[str, Any], members: dict[str, Any]
) -> bytes:
    """All of this; what can't be pickled is left out, and an argument is put as text."""
    try:
        return _checked_dumps((args, attributes, members))
    except Exception:
        pass
    return pickle.dumps(
        (
            tuple(arg if _travels(arg) else _safe_repr(arg) for arg in args),
            {name: value for name, value in attributes.items() if _travels(value)},
            {name: value for name, value in members.items() if _travels(value)},
        )
    )


def _checked_dumps(value: Any) -> bytes:
    """The pickle of *value*, that was seen to load again."""
    data = pickle.dumps(value)
    pickle.loads(data)
    return data


def _travels(value: Any) -> bool:
    try:
        _checked_dumps(value)
    except Exception:
        return False
    return True


def _safe_repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception:
        return f"<unprintable {name_of(type(value))}>"


def imported(module: str, qualname: str) -> type[BaseException]:
    found: Any = importlib.import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name)
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        raise TypeError(f"{module}.{qualname} is no exception")
    return found
