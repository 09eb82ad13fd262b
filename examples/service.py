"""A service of one's own: uvicorn service:app --app-dir examples"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request, Response

from birefnet_runtime import AsyncMatting, Cutout, Limits, Options, errors

OPTIONS = Options(background="white", max_pixels=64_000_000)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    matting = await asyncio.to_thread(AsyncMatting.open, "nano", limits=Limits(queue=16))
    async with matting:  # at the end it refuses new pictures and finishes those it took
        await matting.warm_up()
        app.state.matting = matting
        yield


def to_png(found: Cutout) -> bytes:
    return found.encode(".png")


app = FastAPI(lifespan=lifespan)


@app.post("/cutout")
async def cutout(request: Request) -> Response:
    matting: AsyncMatting = app.state.matting
    picture, late = await request.body(), time.monotonic() + 30
    try:  # threads decode, cut out and encode: the loop stays free
        png = await matting.apply(to_png, picture, OPTIONS, deadline=late, patient=False)
    except errors.BusyError as error:
        raise HTTPException(503, str(error), {"Retry-After": f"{error.retry_after:.0f}"}) from error
    except errors.DeadlineError as error:
        raise HTTPException(504, str(error)) from error
    except errors.InputError as error:
        raise HTTPException(415, error.reason) from error
    return Response(png, media_type="image/png")
