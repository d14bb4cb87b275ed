"""A folder over HTTP, with ranges, by sendfile: `python -m bench.ready.file_server FOLDER PORT`."""

import sys

from aiohttp import web

if __name__ == "__main__":
    app = web.Application()
    app.router.add_static("/", sys.argv[1])
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), print=None, access_log=None)
