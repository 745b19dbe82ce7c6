"""What lies in the warehouse, over TCP, one line a request:

RESERVE <sku> <quantity>     OK <left> | SHORT <left>
ADD <sku> <quantity>         OK <left>
COUNT <sku>                  OK <left>
"""

import asyncio
import sys
from collections import Counter

goods = Counter({"kettle": 500, "teapot": 500, "cup": 5000})


def answer(line: str) -> str:
    match line.split():
        case ["COUNT", sku]:
            return f"OK {goods[sku]}"
        case ["ADD", sku, quantity] if quantity.isdigit():
            goods[sku] += int(quantity)
            return f"OK {goods[sku]}"
        case ["RESERVE", sku, quantity] if quantity.isdigit():
            if goods[sku] < int(quantity):
                return f"SHORT {goods[sku]}"
            goods[sku] -= int(quantity)
            return f"OK {goods[sku]}"
        case _:
            return "WHAT"


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while line := await reader.readline():
            writer.write(f"{answer(line.decode(errors='replace'))}\n".encode())
            await writer.drain()
    except (ConnectionError, ValueError):
        pass  # the caller went away, or its line has no end
    finally:
        writer.close()


async def serve(port: int) -> None:
    server = await asyncio.start_server(talk, "127.0.0.1", port)
    print(f"stock: {goods.total()} articles on port {port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
