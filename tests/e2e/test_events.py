"""docker events."""
import json
import time

import pytest

from engines import is_up
from images import entry, tar


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


@pytest.mark.differs('tells of the end before the network is left')
def test_a_container_comes_to_its_network_and_leaves_it(docker, name):
    began = now()
    docker.ok('run', '-d', '--init', '--name', name, 'bb', 'sleep', '100')
    docker.ok('stop', name)
    identity, network = docker.inspect(name)['Id'], json.loads(docker.ok('network', 'inspect', 'bridge'))[0]['Id']
    events = [event for event in since(docker, began) if identity in (event['Actor']['ID'],
                                                                       event['Actor']['Attributes'].get('container'))]
    told = [f'{event["Type"]} {event["Action"]}' for event in events if event['Action'] != 'kill']
    assert told[:4] == ['container create', 'network connect', 'container start', 'network disconnect']
    assert told[4:] == ['container die', 'container stop'] or docker.engine.name == 'dockerd' and sorted(told[4:]) == ['container die', 'container stop']
    for event in events:
        if event['Type'] == 'network':
            assert event['Actor'] == {'ID': network, 'Attributes': {'container': identity, 'name': 'bridge', 'type': 'bridge'}}
            assert 'status' not in event and 'id' not in event
    assert actions(since(docker, began, '--filter', f'network={network[:12]}'), 'network') == ['connect', 'disconnect']
    assert actions(since(docker, began, '--filter', 'network=bridge', '--filter', 'event=connect'), 'network') == ['connect']
    assert since(docker, began, '--filter', 'network=none') == []
    assert {event['Type'] for event in since(docker, began, '--filter', 'type=network')} == {'network'}


def test_a_container_without_a_network_is_on_none(docker, name):
    began = now()
    docker.ok('run', '--network', 'none', '--name', name, 'bb', 'true')
    events = since(docker, began, '--filter', 'type=network')
    assert [(event['Action'], event['Actor']['Attributes']['name'], event['Actor']['Attributes']['type'])
            for event in events] == [('connect', 'none', 'null'), ('disconnect', 'none', 'null')]


@pytest.mark.differs_today('joins the network after the process was made, and tells of a leaving alone', alone=True)
def test_a_start_that_fails_leaves_the_network(docker, name):
    began = now()
    docker('run', '--name', name, 'bb', '/no/such/program')
    assert actions(since(docker, began, '--filter', 'type=network'), 'network') == ['connect', 'disconnect']


def test_images(docker):
    root = tar([entry('a', data=b'events')])
    began = now()
    identity = docker.ok('import', '-c', 'LABEL colour=blue', '-', 'events:1', input=root)
    docker.ok('tag', 'events:1', 'events')
    docker.ok('tag', 'events', 'docker.io/library/events:3')
    docker.ok('rmi', 'events:3', 'events:latest', 'events:1')
    events = since(docker, began, '--filter', 'type=image')
    assert {event['Actor']['ID'] for event in events} == {identity}
    assert [(event['Action'], event['Actor']['Attributes']['name']) for event in events] == [
        ('tag', 'events:1'), ('import', identity), ('tag', 'events:latest'), ('tag', 'events:3'), ('untag', identity),
        ('untag', identity), ('untag', identity), ('delete', identity)]
    assert events[2]['Actor']['Attributes']['colour'] == 'blue' and 'colour' not in events[-1]['Actor']['Attributes']
    assert actions(since(docker, began, '--filter', 'label=colour=blue', '--filter', 'event=tag'), 'image') == ['tag'] * 3
    assert actions(since(docker, began, '--filter', 'image=events:3'), 'image') == ['tag']


@pytest.mark.container_only('HostConfig.Binds')
def test_volumes(docker, name):
    began = now()
    docker.ok('run', '-d', '--name', name, '-v', name + ':/named:ro', '-v', '/anonymous', '--tmpfs', '/t', 'bb', 'sleep', '100')
    docker.ok('rm', '-fv', name)
    events = since(docker, began, '--filter', 'type=volume')
    first, second = events[0]['Actor']['ID'], events[1]['Actor']['ID']
    assert first == name and len(second) == 64
    told = [(event['Action'], event['Actor']['ID']) for event in events]
    assert told[:4] == [('create', first), ('create', second), ('mount', first), ('mount', second)]
    assert set(told[4:6]) == {('unmount', first), ('unmount', second)} and told[6:] == [('destroy', second)]
    attributes = dict(events[2]['Actor']['Attributes'])
    assert len(attributes.pop('container')) == 64
    assert attributes == {'driver': 'local', 'destination': '/named', 'propagation': '', 'read/write': 'false'}
    assert {event['Action'] for event in since(docker, began, '--filter', f'volume={second[:12]}')} == {
        'create', 'mount', 'unmount', 'destroy'}


@pytest.mark.container_only('HostConfig.Binds')
@pytest.mark.differs('says "create" of one that is there as well')
def test_a_volume_that_is_there_is_not_created(docker, name):
    docker.ok('create', '-v', name + ':/named', 'bb')
    began = now()
    docker.ok('run', '--rm', '-v', name + ':/named', 'bb', 'true')
    assert actions(since(docker, began, '--filter', f'volume={name}'), 'volume') == ['mount', 'unmount']


def test_names_are_filtered_by_their_beginning(docker, name):
    began = now()
    docker.ok('run', '--name', name + 'long', 'bb', 'true')
    assert actions(since(docker, began, '--filter', f'container={name}'))[0] == 'create'
    assert since(docker, began, '--filter', f'container={name[1:]}') == []


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


# ---- what is told of images, and of looking -------------------------------------------------------------------------


@pytest.mark.differs_today('asks a program that its root here may lack', alone=True)
def test_top_is_told(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '100')
    began = now()
    if docker.vm:
        pytest.skip('top of a microVM is refused')
    docker.ok('top', name)
    assert actions(since(docker, began, '--filter', f'container={name}')) == ['top']


def test_an_image_that_is_made_saved_and_removed(docker, name, tmp_path):
    docker.ok('create', '--name', name, 'bb', 'true')
    began = now()
    identity = docker.ok('commit', '-c', 'LABEL kind=made', name, f'{name}:1')
    docker.ok('save', '-o', str(tmp_path / 'saved.tar'), f'{name}:1')
    docker.ok('rmi', f'{name}:1')
    events = [event for event in since(docker, began) if event['Type'] == 'image']
    assert [event['Action'] for event in events if event['Action'] != 'create'] == ['tag', 'save', 'untag', 'delete']
    assert {event['Actor']['ID'] for event in events} == {identity}
    assert [event['Actor']['Attributes']['name'] for event in events if event['Action'] == 'tag'] == [f'{name}:1']
    assert all(event['Actor']['Attributes'].get('kind') == 'made' for event in events if event['Action'] in ('tag', 'save'))


@pytest.mark.differs('tells no creation of an image')
def test_that_an_image_is_made_is_told_from_1_46_on(docker, api, name):
    docker.ok('create', '--name', name, 'bb', 'true')
    began = now()
    docker.ok('rmi', docker.ok('commit', name))
    for version, told in ((45, []), (46, ['create']), (51, ['create'])):
        lines = api.get(f'/v1.{version}/events?since={began}&until={now()}').body.splitlines()
        assert [event['Action'] for event in map(json.loads, lines) if event['Type'] == 'image' and event['Action'] == 'create'] == told
