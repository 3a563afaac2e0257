"""gcp-storage-emulator, told some things that the service does and it does not.

- A download says the object's generation (`x-goog-generation`) and its size (`x-goog-stored-content-length`); Google's
  own client refuses one that does not say the first.
- Of a session that has nothing yet, a status query has no `Range`; the emulator says `bytes=0-0`, which is one byte.
- It waits for the request of one connection while others have theirs: a client's spare connection would hold up all.
  Here each has a thread, and requests are still answered one at a time.
"""

import sys
import threading
from http.server import ThreadingHTTPServer

from gcp_storage_emulator import server
from gcp_storage_emulator.__main__ import main
from gcp_storage_emulator.handlers import objects


def with_facts(handler):
    def handle(request, response, storage, *args, **kwargs):
        handler(request, response, storage, *args, **kwargs)
        if response.status < 300:
            found = storage.get_file_obj(
                request.params["bucket_name"], request.params["object_id"]
            )
            response["x-goog-generation"] = found["generation"]
            response["x-goog-stored-content-length"] = found["size"]

    return handle


def incomplete(response, storage, upload_id):
    response.status = objects.GoogleHTTPStatus.RESUME_INCOMPLETE
    received = storage.get_resumable_byte_count(upload_id)
    if received:
        response["Range"] = f"bytes=0-{received - 1}"


for _, methods in server.HANDLERS:
    for method, handler in methods.items():
        if handler in (objects.get, objects.download):
            methods[method] = with_facts(handler)
objects._resumable_incomplete = incomplete

one_at_a_time = threading.Lock()


def alone(handler):
    def handle(request):
        with one_at_a_time:
            handler(request)

    return handle


for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
    name = f"do_{method}"
    setattr(server.RequestHandler, name, alone(getattr(server.RequestHandler, name)))
server.server.HTTPServer = ThreadingHTTPServer
main(sys.argv[1:])
