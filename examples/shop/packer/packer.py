"""The shop's packer: reads each parcel from its queue and packs it. It only calls."""

import asyncio
import json
import os

import watertight


async def main() -> None:
    async with watertight.channel("jobs") as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=10)
        parcels = await channel.get_queue("parcels")
        async with parcels.iterator() as waiting:
            async for message in waiting:
                async with message.process():
                    parcel = json.loads(message.body)
                    print(f"packer: {parcel['quantity']} × {parcel['sku']}", flush=True)


if __name__ == "__main__":
    if "WATERTIGHT_CHANNELS" not in os.environ:
        raise SystemExit("packer: there is no channel to a broker here")
    asyncio.run(main())
