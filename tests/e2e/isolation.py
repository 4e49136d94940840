"""One suite, two walls. Behind the VM wall every `docker run`, `create` and `build` gets --isolation vm, every create body likewise, and the
tests are the same but for what that wall refuses: the one list of it stands in the engine, src/engine/vm.c, and is read here."""
import http.client
import json
import os
import re
import threading
import time

import pytest

import engines

VM = os.environ.get('BERTH_E2E_ISOLATION', 'container') == 'vm'
SHORT = VM and bool(os.environ.get('BERTH_E2E_SHORT'))
BOOTS_MAX = 40  # of a short pass


def refusals():
    """{path: (the client's option, why)} of what the VM wall refuses."""
    source = engines.read(os.path.join(engines.ROOT, 'src/engine/vm.c'))
    table = source[source.index('vm_refusals[] = {'):]
    rows = re.findall(r'\{ "([^"]+)", "([^"]+)", "([^"]+)", \w+ \}', table[:table.index('};')])
    assert rows, 'no refusals found in src/engine/vm.c'
    return {path: (option, why) for path, option, why in rows}


def arguments(words):
    """The client's arguments, with the wall in them; a wall that a test names itself stays."""
    named = any(word.split('=')[0] in ('--isolation', '--runtime') for word in words)
    if VM and not named and words and words[0] in ('run', 'create', 'build'):
        return [words[0], '--isolation', 'vm', *words[1:]]
    return list(words)


def create_body(body):
    if not VM or not isinstance(body, dict) or 'Image' not in body:
        return body
    host = body.get('HostConfig') or {}
    if not isinstance(host, dict) or 'Isolation' in host or 'Runtime' in host:
        return body
    return {**body, 'HostConfig': {**host, 'Isolation': 'vm'}}


def choose(config, items):
    """Leaves out of a pass what is not its business."""
    listed = refusals()
    keep, out = [], []
    for item in items:
        only = item.get_closest_marker('container_only')
        if only and only.args[0] not in listed:
            raise pytest.UsageError(f'{item.nodeid}: {only.args[0]} is not among what the VM wall refuses')
        unwanted = VM and only or not VM and item.get_closest_marker('vm_only') or SHORT and not item.get_closest_marker('short_vm')
        (out if unwanted else keep).append(item)
    items[:] = keep
    if out:
        config.hook.pytest_deselected(items=out)


class Boots:
    """Counts the starts of a short pass, by the engine's own events; a daemon that a test restarts is listened to again."""

    def __init__(self, engine):
        self.engine, self.count, self.over = engine, 0, False
        self.thread = threading.Thread(target=self.listen, daemon=True)
        if SHORT:
            self.thread.start()

    def listen(self):
        while not self.over:
            try:
                connection = engines.UnixHTTP(self.engine.socket, timeout=600)
                connection.request('GET', '/events?filters=' + '%7B%22event%22%3A%5B%22start%22%5D%7D')
                for line in connection.getresponse():
                    self.count += json.loads(line).get('Type') == 'container'
            except (OSError, ValueError, http.client.HTTPException):
                time.sleep(0.1)

    def end(self):
        self.over = True
        if SHORT:
            assert self.count <= BOOTS_MAX, f'{self.count} boots in the short VM pass, {BOOTS_MAX} at most'
