"""Drives the sandbox's cloud with Google's own client. Prints a line of JSON for each step.

    google_client.py compute URL KEY BODY    the life of a machine, by its API
    google_client.py machine AUDIENCE JWKS   who a machine is, by its metadata server
"""

import json
import sys
import uuid

import google.auth
import google.auth.transport.requests
import google.oauth2.id_token
from google.auth import compute_engine
from google.oauth2 import service_account
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

PROJECT, ZONE = "sandbox-project", "us-central1-a"


def did(what, **more):
    print(json.dumps({"did": what, **more}), flush=True)


def reason(call):
    try:
        call.execute()
    except HttpError as error:
        return error.resp.status, error.error_details[0]["reason"] if error.error_details else ""
    raise AssertionError("it was not refused")


def compute(url, key, body):
    credentials = service_account.Credentials.from_service_account_info(
        json.loads(key), scopes=["https://www.googleapis.com/auth/cloud-platform"]
    )
    # The client's own document, and our address in the place of Google's.
    api = build(
        "compute", "v1", credentials=credentials, static_discovery=True, cache_discovery=False,
        client_options={"api_endpoint": f"{url}/compute/v1/"},
    )
    at = {"project": PROJECT, "zone": ZONE}
    body = json.loads(body)
    request = {"requestId": str(uuid.uuid4())}
    operation = api.instances().insert(body=body, **request, **at).execute()
    did("insert", operation=operation["name"])
    done = api.zoneOperations().wait(operation=operation["name"], **at).execute()
    assert done["status"] == "DONE" and "error" not in done, done
    did("wait")
    found = api.instances().get(instance=body["name"], **at).execute()
    assert found["status"] == "RUNNING" and found["labels"] == body["labels"], found
    did("get")
    listing = api.instances().list(filter=f'labels.job = "{body["name"]}"', maxResults=1, **at)
    names = []
    while listing is not None:
        page = listing.execute()
        names += [item["name"] for item in page.get("items", [])]
        listing = api.instances().list_next(listing, page)
    assert names == [body["name"]], names
    did("list")
    scopes = api.instances().aggregatedList(project=PROJECT, fields="items,unreachables").execute()
    assert scopes["items"][f"zones/{ZONE}"]["instances"][0]["name"] == body["name"], scopes
    did("aggregated")
    again = api.instances().insert(body=body, **request, **at).execute()
    assert again["name"] == operation["name"], again
    did("repeat")
    assert reason(api.instances().insert(body=body, **at)) == (409, "alreadyExists")
    did("refuse")
    asked = {"permissions": ["compute.instances.delete"]}
    answer = api.instances().testIamPermissions(resource=body["name"], body=asked, **at).execute()
    assert answer == asked, answer
    did("permissions")
    operation = api.instances().delete(instance=body["name"], **at).execute()
    done = api.zoneOperations().wait(operation=operation["name"], **at).execute()
    assert done["status"] == "DONE" and "error" not in done, done
    did("delete")
    assert reason(api.instances().get(instance=body["name"], **at)) == (404, "notFound")
    did("gone")


def machine(audience, jwks):
    request = google.auth.transport.requests.Request()
    credentials, project = google.auth.default()
    assert isinstance(credentials, compute_engine.Credentials), credentials
    credentials.refresh(request)
    assert credentials.token.startswith("ya29."), credentials.token
    token = compute_engine._metadata.get(
        request, "instance/service-accounts/default/identity",
        params={"audience": audience, "format": "full"},
    )
    claims = google.oauth2.id_token.verify_token(token, request, audience, certs_url=jwks)
    did("machine", email=credentials.service_account_email, project=project, claims=claims)


{"compute": compute, "machine": machine}[sys.argv[1]](*sys.argv[2:])
