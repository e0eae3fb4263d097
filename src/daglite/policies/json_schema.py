"""The JSON schema of a policy: defaults that are code are written as import strings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema

from daglite.policies.code import import_path

__all__ = ["PolicySchema", "ShortForm"]


class PolicySchema(GenerateJsonSchema):
    """Pydantic's generator, which takes defaults that are classes."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, tuple):
            return [self.encode_default(item) for item in dft]
        if isinstance(dft, type):
            return import_path(dft, "a default")
        if isinstance(dft, Mapping):
            return dict(dft)
        return super().encode_default(dft)


class ShortForm:
    """Annotation of a field that takes a short form of what it holds, too."""

    def __init__(self, *schemas: dict[str, Any]) -> None:
        self.schemas = schemas

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        long = handler(core_schema)
        return {"anyOf": [*self.schemas, *long.get("anyOf", [long])]}
