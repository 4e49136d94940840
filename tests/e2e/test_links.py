"""docker run --link on the default bridge: names in /etc/hosts and variables, as before networks had names."""
import os
import re

import pytest

IMAGE = 'bb:latest'


def environment(text):
    return dict(line.split('=', 1) for line in text.splitlines() if '=' in line)


@pytest.fixture
def db(docker, name):
    docker.ok('run', '-d', '--name', name, '-h', 'dbhost', '--expose', '5432', '--expose', '8000-8002', '--expose', '9053/udp', '-e', 'USER=me', '-e', 'EMPTY=',
              IMAGE, 'sleep', '1000')
    return name


def address(docker, name):
    return docker.inspect(name)['NetworkSettings']['Networks']['bridge']['IPAddress']


def test_names_and_variables(docker, db, name):
    web = name + 'w'
    docker.ok('run', '-d', '--name', web, '--link', f'{db}:data-base', '--link', db, '-e', 'DATA_BASE_NAME=mine', IMAGE, 'sleep', '1000')
    ip = address(docker, db)
    hosts = docker.ok('exec', web, 'cat', '/etc/hosts').splitlines()
    assert f'{ip}\tdata-base dbhost {db}' in hosts and f'{ip}\t{db} dbhost' in hosts
    assert docker.ok('exec', web, 'ping', '-c1', '-W3', 'data-base').count('1 packets received')
    env = environment(docker.ok('exec', web, 'sh', '-c', 'tr "\\0" "\\n" </proc/1/environ'))
    assert {key: value for key, value in env.items() if key.startswith('DATA_BASE')} == {
        'DATA_BASE_PORT': f'tcp://{ip}:5432',
        'DATA_BASE_PORT_5432_TCP': f'tcp://{ip}:5432', 'DATA_BASE_PORT_5432_TCP_ADDR': ip, 'DATA_BASE_PORT_5432_TCP_PORT': '5432',
        'DATA_BASE_PORT_5432_TCP_PROTO': 'tcp',
        **{f'DATA_BASE_PORT_{port}_TCP{end}': value.format(port) for port in (8000, 8001, 8002)
           for end, value in {'': f'tcp://{ip}:{{}}', '_ADDR': ip, '_PORT': '{}', '_PROTO': 'tcp'}.items()},
        'DATA_BASE_PORT_8000_TCP_START': f'tcp://{ip}:8000', 'DATA_BASE_PORT_8000_TCP_PORT_START': '8000',
        'DATA_BASE_PORT_8000_TCP_END': f'tcp://{ip}:8002', 'DATA_BASE_PORT_8000_TCP_PORT_END': '8002',
        'DATA_BASE_PORT_9053_UDP': f'udp://{ip}:9053', 'DATA_BASE_PORT_9053_UDP_ADDR': ip, 'DATA_BASE_PORT_9053_UDP_PORT': '9053',
        'DATA_BASE_PORT_9053_UDP_PROTO': 'udp',
        'DATA_BASE_NAME': 'mine', 'DATA_BASE_ENV_USER': 'me', 'DATA_BASE_ENV_EMPTY': ''}
    assert environment(docker.ok('exec', web, 'env'))['DATA_BASE_ENV_USER'] == 'me'


def test_what_is_shown_and_taken_away(docker, api, db, name):
    web = name + 'w'
    docker.ok('create', '--name', web, '--link', f'{db}:db', '--link', f'{db}:second', IMAGE, 'sleep', '1000')
    assert sorted(docker.inspect(web)['HostConfig']['Links']) == [f'/{db}:/{web}/db', f'/{db}:/{web}/second']
    rows = {row['Id']: row['Names'] for row in api.get('/containers/json?all=1').json}
    assert sorted(rows[docker.inspect(db)['Id']]) == sorted([f'/{db}', f'/{web}/db', f'/{web}/second'])
    assert docker.ok('ps', '--no-trunc', '--filter', f'id={docker.inspect(db)["Id"]}', '--format', '{{.Names}}').count(f'{web}/db') == 1
    assert api.get(f'/containers/{web}/db/json').json['Name'] == f'/{db}'
    docker.ok('rename', web, web + 'x')
    assert f'/{db}:/{web}x/db' in docker.inspect(web + 'x')['HostConfig']['Links']
    docker.ok('rm', '--link', f'{web}x/db')
    assert docker.inspect(web + 'x')['HostConfig']['Links'] == [f'/{db}:/{web}x/second']
    assert docker.inspect(db)['State']['Running']
    failed = docker('rm', '--link', web + 'x')
    assert failed.code == 1 and 'onflict' in failed.err and 'cannot remove the default' in failed.err
    docker.ok('rm', '-f', db)
    failed = docker('start', web + 'x')
    assert failed.code == 1 and 'Cannot link to a non running container: ' in failed.err


@pytest.mark.skipif(os.environ.get('BERTH_E2E_ISOLATION') == 'vm', reason="a guest's /etc/hosts is its own")
def test_a_child_that_starts_again_has_its_new_address(docker, db, name):
    web, other = name + 'w', name + 'o'
    docker.ok('run', '-d', '--name', web, '--link', f'{db}:db', IMAGE, 'sleep', '1000')
    docker.ok('exec', web, 'sh', '-c', 'echo 10.9.8.7 mine >>/etc/hosts')
    before = address(docker, db)
    docker.ok('stop', '-t', '0', db)
    docker.ok('run', '-d', '--name', other, IMAGE, 'sleep', '1000')
    docker.ok('start', db)
    after = address(docker, db)
    assert after != before == address(docker, other)
    hosts = docker.ok('exec', web, 'cat', '/etc/hosts')
    assert f'{after}\tdb dbhost {db}\n' in hosts and f'{before}\tdb' not in hosts and '10.9.8.7 mine' in hosts


def test_links_of_compose_by_the_api(docker, api, db, name):
    """What an inspect says can be said at a create."""
    made = api.post(f'/containers/create?name={name}w', {'Image': IMAGE, 'Cmd': ['sleep', '9'], 'HostConfig': {'Links': [f'/{db}:/{name}x/db']}})
    assert made.status == 201, made.json
    assert docker.inspect(name + 'w')['HostConfig']['Links'] == [f'/{db}:/{name}w/db']


@pytest.mark.parametrize('link, says', [
    ('nosuch:db', 'could not get container for nosuch: No such container: nosuch'),
    ('a:b:c', 'bad format for links: a:b:c'),
], ids=['nobody', 'form'])
def test_links_to_nobody(docker, api, name, link, says):
    answer = api.post('/containers/create', {'Image': IMAGE, 'HostConfig': {'Links': [link]}})
    assert answer.status in (400, 500) and says in answer.json['message']


@pytest.mark.berth
@pytest.mark.parametrize('alias', ['a b', 'a\nb', 'x=y', 'a' * 300, '#'])
def test_an_alias_is_a_word(docker, api, db, alias):
    answer = api.post('/containers/create', {'Image': IMAGE, 'HostConfig': {'Links': [f'{db}:{alias}']}})
    assert answer.status == 400 and 'invalid alias' in answer.json['message']


def test_a_link_to_one_that_does_not_run(docker, name):
    docker.ok('create', '--name', name, IMAGE, 'true')
    failed = docker('run', '--name', name + 'w', '--link', f'{name}:db', IMAGE, 'true')
    assert failed.code == 125 and f'Cannot link to a non running container: /{name} AS /{name}w/db' in failed.err


def test_a_link_to_one_of_another_network(docker, db, name):
    docker.ok('network', 'create', name)
    docker.ok('run', '-d', '--name', name + 'o', '--network', name, IMAGE, 'sleep', '100')
    try:
        failed = docker('run', '--name', name + 'w', '--link', f'{name}o:db', IMAGE, 'true')
        assert failed.code == 125 and re.search(f'Cannot link to /{name}o, as it does not belong to the default network|not attached to default bridge network', failed.err)
    finally:
        docker('rm', '-f', name + 'o', name + 'w')
        docker.ok('network', 'rm', name)


@pytest.mark.berth
def test_links_outlive_the_daemon(docker, api, db, name):
    docker.ok('run', '-d', '--name', name + 'w', '--link', f'{db}:db', '--link', f'{db}:gone', IMAGE, 'sleep', '1000')
    docker.ok('rm', '--link', f'{name}w/gone')
    docker.engine.kill9()
    docker.engine.start()
    docker.engine.restarted = True
    assert docker.inspect(name + 'w')['HostConfig']['Links'] == [f'/{db}:/{name}w/db']
    docker.ok('restart', '-t', '0', name + 'w')
    assert f'{address(docker, db)}\tdb dbhost {db}' in docker.ok('exec', name + 'w', 'cat', '/etc/hosts').splitlines()
