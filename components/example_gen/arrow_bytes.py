"""Packs Arrow tables into bytes, the form in which they are passed between Beam stages."""

import pyarrow as pa

IPC_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


def pack(table: pa.Table) -> bytes:
    """Serialises and compresses ``table``."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=IPC_OPTIONS) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def unpack(data: bytes) -> pa.Table:
    """Reads what ``pack`` wrote."""
    with pa.ipc.open_stream(data) as reader:
        return reader.read_all()
