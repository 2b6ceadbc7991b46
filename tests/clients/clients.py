"""Other people's clients against the sandbox: each lists 1,000 leads and deletes 500 of them.

usage: clients.py CLIENT WEBHOOK_URL    (CLIENT: fast_bitrix24 or b24pysdk)

What is left is read from /sandbox/leads, which shares no code with the REST methods. The sandbox must have been
started with 1,000 leads and nothing deleted. Exit 0 only if exactly the right 500 are gone.
"""

import json
import sys
import urllib.parse
import urllib.request

LEADS = 1000
DELETED = 500


def sandbox(webhook: str, path: str) -> dict:
    base = urllib.parse.urlsplit(webhook)
    with urllib.request.urlopen(f"{base.scheme}://{base.netloc}/sandbox/{path}") as answer:
        return json.load(answer)


def fast_bitrix24(webhook: str) -> list[int]:
    """Offset pages in a batch, then batches of crm.lead.delete; one request at a time."""
    from fast_bitrix24 import Bitrix

    client = Bitrix(webhook, verbose=False)
    with client.slow(1):
        leads = client.get_all("crm.lead.list", {"select": ["ID", "TITLE", "STATUS_ID"]})
        ids = sorted(int(lead["ID"]) for lead in leads)
        doomed = [id for id in ids if id % 2 == 0]
        answers = client.call("crm.lead.delete", [{"ID": id} for id in doomed], raw=False)
    values = list(answers.values()) if isinstance(answers, dict) else list(answers)
    assert len(values) == DELETED and all(value is True for value in values), f"odd answers: {values[:3]}"
    assert ids == list(range(1, LEADS + 1)), f"listed {len(ids)} leads"
    return doomed


def b24pysdk(webhook: str) -> list[int]:
    """Keyset pages chained in a batch, then batches of crm.item.delete. The scheme is overridden, nothing else."""
    import importlib

    from b24pysdk import BitrixWebhook, Client

    callers = importlib.import_module("b24pysdk.api.callers.call_method")
    callers._MethodCaller._base_url = property(lambda self: f"http://{self._domain}/rest")

    url = urllib.parse.urlsplit(webhook)
    user, code = url.path.strip("/").split("/")[1:]
    token = BitrixWebhook(domain=url.netloc, webhook_token=f"{user}/{code}")
    client = Client(token)
    leads = client.crm.item.list(entity_type_id=1, select=["id", "title", "stageId"]).as_list_fast()
    ids = sorted(int(lead["id"]) for lead in leads.result)
    assert ids == list(range(1, LEADS + 1)), f"listed {len(ids)} leads"
    doomed = ids[:DELETED]
    requests = {f"d{id}": client.crm.item.delete(entity_type_id=1, bitrix_id=id) for id in doomed}
    result = client.call_batches(requests).result
    errors = result.result_error
    assert not errors, f"errors: {errors}"
    answers = {key: value.result if hasattr(value, "result") else value for key, value in result.result.items()}
    assert len(answers) == DELETED and all(value == [] for value in answers.values()), f"{list(answers.items())[:3]}"
    return doomed


def main() -> int:
    name, webhook = sys.argv[1:]
    before = sandbox(webhook, "leads")
    assert before["count"] == LEADS, before["count"]
    doomed = {"fast_bitrix24": fast_bitrix24, "b24pysdk": b24pysdk}[name](webhook)
    after = sandbox(webhook, "leads")
    stats = sandbox(webhook, "stats")
    expected = sorted(set(before["ids"]) - set(doomed))
    assert len(doomed) == DELETED, len(doomed)
    assert after["ids"] == expected, "the wrong leads are gone"
    assert sorted(deletion["id"] for deletion in stats["deletions"]) == sorted(doomed)
    print(
        f"{name}: listed {LEADS}, deleted exactly the {DELETED} chosen, in {stats['requests']} requests "
        f"({stats['refused_503']} refused with 503, {stats['refused_429']} with 429)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
