"""berth-oci is killed before any one of its system calls; `delete --force` then clears everything away.

BERTH_KILL_STEP says how far apart the tried calls are, 1 being all of them; the first one is chosen by the day, so that in time all
are seen."""
import os
import time

import pytest
from conftest import RUNTIME
from killing import run_to

STEP = int(os.environ.get('BERTH_KILL_STEP', '29'))
SECONDS = 5


def command_of(bundle, verb):
    place = ['-b', str(bundle.path / 'bundle')] if verb in ('create', 'run') else []
    flags = {'run': ['--detach'], 'delete': ['--force']}.get(verb, [])
    return [RUNTIME, '--root', str(bundle.root), verb, *place, *flags, bundle.id]


def get_ready(bundle, verb):
    if verb == 'start':
        assert bundle.create().returncode == 0
    elif verb == 'delete':
        assert bundle.create().returncode == 0
        assert bundle.call('start', bundle.id).returncode == 0


def clear(bundle, where):
    done = bundle.call('delete', '--force', bundle.id)
    assert done.returncode == 0 and (done.stderr == '' or 'container does not exist' in done.stderr), f'{where}: {done.stderr}'
    end = time.monotonic() + SECONDS
    while (bundle.remains() or bundle.processes()) and time.monotonic() < end:
        time.sleep(0.01)
    assert bundle.remains() == [] and bundle.processes() == [], where


@pytest.mark.berth
@pytest.mark.parametrize('verb', ['create', 'run', 'start', 'delete'])
def test_a_kill_before_any_system_call(bundle, verb):
    bundle.shell(f'sleep 1000; : {bundle.id}').save()
    get_ready(bundle, verb)
    calls, code = run_to(command_of(bundle, verb), None)
    assert code == 0 and calls > 20
    clear(bundle, f'{verb}, not killed')
    for number in range(1 + int(time.time() / 86400) % STEP, calls + 1, STEP):
        get_ready(bundle, verb)
        run_to(command_of(bundle, verb), number)
        clear(bundle, f'{verb}, killed before call {number} of {calls}')
