"""Classes under @jitclass for active numbers: twins, whose fields of floats are active.

A class that the function instantiates has a twin with the same fields and with methods compiled for
active numbers. An instance that is an argument is copied from its fields, without `__init__`, into a
class whose fields cannot be assigned, because the owner of the instance would not see the assignment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from numba.core import cgutils, types
from numba.core.datamodel import default_manager
from numba.core.errors import NumbaTypeError
from numba.core.registry import cpu_target
from numba.experimental.jitclass import base
from numba.extending import intrinsic, lower_setattr_generic

from nbhvp.loops.overloads.numpy_functions import active_kind

__all__ = ["Classes", "is_jitclass"]


class _GivenInstance(types.ClassInstanceType):
    """An instance that came in."""


class _GivenClass(types.ClassType):
    """The class of instances that came in."""

    @property
    def instance_type(self):
        return _GivenInstance(self)


default_manager.register(_GivenInstance, base.InstanceModel)


@lower_setattr_generic(_GivenInstance)
def _refuse_assignment(context, builder, sig, args, attr):
    raise NumbaTypeError(f"assignment to attribute {attr} of an instance from outside")


def is_jitclass(value) -> bool:
    return isinstance(value, base.JitClassType)


@dataclass(frozen=True, eq=False)
class _Named:
    """What stands for a class in compiled code."""

    __name__: str


class Classes:
    """The twins of classes; `function` gives those of their methods."""

    def __init__(self, function: Callable):
        self._function = function
        self._made: dict = {}

    def of(self, jitclass) -> _Named:
        """The twin of a class, for code that makes instances."""
        if jitclass not in self._made:
            twin = self._made[jitclass] = _Named(jitclass.__name__)
            kind = self._kind(jitclass.class_type, types.ClassType)
            cpu_target.typing_context.insert_global(twin, kind)
        return self._made[jitclass]

    def maker(self, kind: types.ClassInstanceType) -> Callable:
        """What makes the twin of an instance from a tuple of its fields."""
        return _maker(self._kind(kind.class_type, _GivenClass).instance_type)

    def _kind(self, kind: types.ClassType, twin: type) -> types.ClassType:
        if (kind, twin) not in self._made:
            struct = {name: self._field(field, twin) for name, field in kind.struct.items()}
            methods, statics = (
                {name: self._function(method) for name, method in group.items()}
                for group in (kind.jit_methods, kind.jit_static_methods)
            )
            properties = {
                name: {use: self._function(method) for use, method in uses.items()}
                for name, uses in kind.jit_props.items()
            }
            named = type(kind.class_name, (), {})
            made = twin(named, base.ConstructorTemplate, struct, methods, properties, statics)
            base.ClassBuilder(made, cpu_target.typing_context, cpu_target.target_context).register()
            self._made[kind, twin] = made
        return self._made[kind, twin]

    def _field(self, field, twin: type):
        if isinstance(field, types.ClassInstanceType):
            return self._kind(field.class_type, twin).instance_type
        return active_kind(field)


def _maker(kind: _GivenInstance) -> Callable:
    @intrinsic
    def make(typing_context, fields):
        def generate(context, builder, sig, args):
            data_kind = kind.get_data_type()
            layout = context.get_data_type(data_kind)
            size = context.get_constant(types.uintp, context.get_abi_sizeof(layout))
            destroy = base.imp_dtor(context, builder.module, kind)
            meminfo = context.nrt.meminfo_alloc_dtor(builder, size, destroy)
            address = context.nrt.meminfo_data(builder, meminfo)
            address = builder.bitcast(address, layout.as_pointer())
            builder.store(cgutils.get_null_value(layout), address)
            data = context.make_data_helper(builder, data_kind, ref=address)
            values = cgutils.unpack_tuple(builder, args[0], len(fields))
            for (name, field), given, value in zip(
                kind.struct.items(), fields, values, strict=True
            ):
                value = context.cast(builder, value, given, field)
                context.nrt.incref(builder, field, value)
                setattr(data, base._mangle_attr(name), value)
            instance = context.make_helper(builder, kind)
            instance.meminfo, instance.data = meminfo, address
            return instance._getvalue()

        return kind(fields), generate

    return make
