"""Deletes the leads of a file of ids with a published client, as its documentation advises, and says how it went.

usage: drain.py CLIENT WEBHOOK_URL IDS_FILE    (CLIENT: fast_bitrix24 or b24pysdk)

Prints one JSON object: deleted, already_gone and other as the client itself reports them, and a note.
"""

import importlib
import json
import sys
import urllib.parse


def fast_bitrix24(webhook: str, ids: list[int]) -> dict:
    from fast_bitrix24 import Bitrix

    client = Bitrix(webhook, verbose=False)
    with client.slow(1):
        answers = client.call("crm.lead.delete", [{"ID": id} for id in ids], raw=False)
    values = list(answers.values()) if isinstance(answers, dict) else list(answers)
    deleted = sum(value is True for value in values)
    return {"deleted": deleted, "already_gone": 0, "other": len(ids) - deleted, "note": "slow(1)"}


def b24pysdk(webhook: str, ids: list[int]) -> dict:
    from b24pysdk import BitrixWebhook, Client

    # The client insists on https; the scheme is overridden, nothing else.
    callers = importlib.import_module("b24pysdk.api.callers.call_method")
    callers._MethodCaller._base_url = property(lambda self: f"http://{self._domain}/rest")
    url = urllib.parse.urlsplit(webhook)
    user, code = url.path.strip("/").split("/")[1:]
    client = Client(BitrixWebhook(domain=url.netloc, webhook_token=f"{user}/{code}"))
    requests = {f"d{id}": client.crm.lead.delete(bitrix_id=id) for id in ids}
    result = client.call_batches(requests).result
    errors = result.result_error or {}
    gone = sum("not found" in str(error).lower() for error in errors.values())
    deleted = sum(getattr(value, "result", value) is True for value in result.result.values())
    return {"deleted": deleted, "already_gone": gone, "other": len(ids) - deleted - gone, "note": ""}


def main() -> int:
    name, webhook, path = sys.argv[1:]
    with open(path, encoding="ascii") as file:
        ids = [int(line) for line in file]
    try:
        report = {"fast_bitrix24": fast_bitrix24, "b24pysdk": b24pysdk}[name](webhook, ids)
    except Exception as error:  # the benchmark wants to know how a client ends, whatever it raises
        note = f"raised {type(error).__name__}: {str(error)[:80]}"
        report = {"deleted": 0, "already_gone": 0, "other": len(ids), "note": note}
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
