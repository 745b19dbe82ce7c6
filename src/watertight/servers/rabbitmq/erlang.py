"""How text is written in Erlang."""


def binary(text: str) -> str:
    """An Erlang binary, byte by byte: no name can be anything but a name."""
    return f"<<{','.join(str(byte) for byte in text.encode())}>>"
