"""The npm packages dockerode and testcontainers: scripts in node/, of which each function is a test."""
import os
import re
import subprocess

import pytest

NODE = os.path.join(os.path.dirname(__file__), 'node')


def cases():
    for script in ('dockerode.js', 'testcontainers.js'):
        with open(os.path.join(NODE, script)) as text:
            for name in re.findall(r'^tests\.(\w+) = ', text.read(), re.M):
                yield pytest.param(script, name, id=f'{script[:-3]}-{name}')


@pytest.mark.skipif(not os.path.isdir(os.environ.get('NODE_PATH', '')), reason='npm was not there to get the packages')
@pytest.mark.parametrize('script, name', cases())
def test_script(environment, image, script, name):
    done = subprocess.run(['timeout', '-s', 'KILL', '90', 'node', script, name, image], cwd=NODE, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          env={**environment, 'NODE_PATH': os.environ['NODE_PATH'], 'TESTCONTAINERS_RYUK_DISABLED': 'true'})
    assert done.returncode == 0, done.stdout + done.stderr
