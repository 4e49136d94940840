"""docker events."""
import json
import time

import pytest

from engines import is_up


def now(offset=0):
    return f'{time.time() + offset:.9f}'


def since(docker, moment, *options):
    lines = docker.ok('events', '--since', moment, '--until', now(), '--format', '{{json .}}', *options).splitlines()
    return [json.loads(line) for line in lines]


def actions(events, kind='container'):
    return [event['Action'] for event in events if event['Type'] == kind]


@pytest.mark.short_vm
def test_the_life_of_a_container(docker, name):
    began = now()
    docker('run', '--name', name, '-l', 'tag=this', 'bb', 'sh', '-c', 'exit 3')
    docker.ok('rm', name)
    events = since(docker, began, '--filter', f'container={name}')
    assert actions(events) == ['create', 'attach', 'start', 'die', 'destroy']
    die = next(event for event in events if event['Action'] == 'die')
    assert die['Actor']['Attributes'].items() >= {'name': name, 'image': 'bb', 'tag': 'this', 'exitCode': '3'}.items()
    assert die['timeNano'] // 1_000_000_000 == die['time'] and die['scope'] == 'local'


def test_stop_is_kill_die_stop(docker, name):
    docker.ok('run', '-d', '--init', '--name', name, 'bb', 'sh', '-c', 'echo up; exec sleep 100')
    is_up(docker, name)
    began = now()
    docker.ok('stop', name)
    events = since(docker, began, '--filter', f'container={name}')
    assert actions(events)[0] == 'kill' and sorted(actions(events)[1:]) == ['die', 'stop']  # dockerd: in either order
    assert events[0]['Actor']['Attributes']['signal'] == '15'


def test_rm_of_a_run(docker, name):
    began = now()
    docker.ok('run', '--rm', '--name', name, 'bb', 'true')
    assert actions(since(docker, began, '--filter', f'container={name}')) == ['create', 'attach', 'start', 'die', 'destroy']


def test_exec(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '100')
    began = now()
    docker('exec', name, 'sh', '-c', 'exit 2')
    events = since(docker, began, '--filter', f'container={name}')
    assert actions(events) == ['exec_create: sh -c exit 2', 'exec_start: sh -c exit 2', 'exec_die']
    assert events[2]['Actor']['Attributes']['exitCode'] == '2'


def test_filters(docker, name):
    began = now()
    docker.ok('run', '--name', name + 'a', 'bb', 'true')
    docker.ok('run', '--name', name + 'b', 'bb', 'true')
    only = since(docker, began, '--filter', 'event=start', '--filter', f'container={name}b')
    assert [(event['Action'], event['Actor']['Attributes']['name']) for event in only] == [('start', name + 'b')]
    assert actions(since(docker, began, '--filter', 'type=image')) == []


def test_they_come_as_they_happen(docker, name):
    with docker.popen('events', '--filter', f'container={name}', '--format', '{{.Action}}') as listener:
        time.sleep(0.5)
        docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '100')
        assert listener.stdout.readline() == b'create\n'
        assert listener.stdout.readline() == b'start\n'
        listener.kill()
