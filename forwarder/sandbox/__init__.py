"""A local AWS for events: EventBridge, CloudWatch RUM and Evidently on one port, with faults on order.

    forwarder sandbox                       # http://127.0.0.1:2790
    export AWS_ENDPOINT_URL_EVENTBRIDGE=http://127.0.0.1:2790
    aws events put-events --entries '[{"Source":"my.app","DetailType":"Hello","Detail":"{}"}]'
    curl -s http://127.0.0.1:2790/_sandbox/events

It answers PutEvents and DescribeEventBus (JSON 1.1 at /), PutRumEvents (/appmonitors/{id}) and
PutProjectEvents (/events/projects/{name or ARN}) as AWS does: the same limits, the same errors, one result
per entry. It also drops what AWS drops in silence (an unknown bus, a DetailType over 128 characters) while
it answers with an EventId. Signatures are not checked. RUM and Evidently clients put "dataplane." before the
host unless told not to (botocore: Config(inject_host_prefix=False)).

Markers: an event whose Detail, data or details object has a member "sandbox" with one of these words

    reject          always fails by itself, with a permanent code (InvalidArgument; Evidently:
                    ValidationException)
    refuse          its whole call is refused with ValidationException, always
    fail-once       fails by itself with an internal failure, the first time it comes
    fail-twice      the same, the first two times
    throttle-once   fails by itself with ThrottlingException, the first time it comes

An event is the same one when its entry is. PutRumEvents has no results for single events, so there every
word strikes the whole call: ValidationException, 500 or 429.

Faults: POST /_sandbox/faults takes one, or a list of them, such as
{"fault": "throttle", "api": "eventbridge", "times": 3, "retry_after": 2}

    throttle         ThrottlingException (retry_after: seconds to come back in, in both of AWS's headers)
    error            500, or the status, code and message given
    slow             answered after delay seconds (1.0); the events are taken before
    hang             never answered; ends in a reset when the faults are deleted or the sandbox stops
    reset            the connection is reset, nothing is taken
    reset_after      the events are taken, then the connection is reset
    wrong_shape      200 with something else: shape html, empty, list, object or null; nothing is taken
    missing_results  200 with one result too few; nothing is taken
    entry            single entries fail, with InternalFailure or the code and message given
    credentials      ExpiredTokenException 403
    access_denied    AccessDeniedException
    not_found        ResourceNotFoundException
    redirect         307 to location, by default to a place that counts who follows

Members of every fault: api (eventbridge, rum, evidently; none: all), name (of one bus, app monitor or
project), operation (DescribeEventBus is hit only when named), times (hits, then over), rate (share of the
calls, for entry of the entries), seconds (then over), code, status, message. The first fault that hits wins;
slow adds to the next.

Control:

    GET    /_sandbox/events?api=&since=N&dropped=true    what arrived, JSON lines, in order
    GET    /_sandbox/summary                             calls, events, duplicates, injected faults, per API
    GET, POST, DELETE /_sandbox/faults                   in force; order more; end all
    GET    /_sandbox/buses                               the buses that exist
    POST, DELETE /_sandbox/buses/{name}                  make one, delete one
    PUT, DELETE /_sandbox/access-keys                    a list: calls with other keys have expired; any
    POST   /_sandbox/reset                               forget everything

--upstream URL puts the faults in front of another EventBridge: what no fault hits is passed on, and its
answers come back.

Invariants:
- Nothing of the forwarder but its knowledge of the APIs is used here: the sandbox may judge the daemon.
- Decisions are plain functions without I/O (faults, markers, the services, cloud, record); server, control
  and upstream do the talking.
"""

from forwarder.sandbox.server import Sandbox, make_app, running, serve
from forwarder.sandbox.settings import SandboxSettings

__all__ = ["Sandbox", "SandboxSettings", "make_app", "running", "serve"]
