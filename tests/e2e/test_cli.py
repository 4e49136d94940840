"""berth: the same command lines through `docker` and through `berth`, on one daemon. Output, error text and exit code have to be the
same; what differs in every run (ids, ages, times) is made equal first, and `berth` may say more in lines that begin with "Did you mean"."""
import json
import os
import re
import subprocess

import pytest

import engines
import images
import isolation
from conftest import Docker

pytestmark = pytest.mark.skipif(isolation.VM, reason='a command line is the same for both walls: BERTH_E2E_CLI runs the other tests with it')

BERTH = os.path.join(engines.BIN, 'berth')
AGES = r'(Less than a second|About an? \w+|\d+ (?:second|minute|hour)s?)'


def same(text):
    """What is different in each run, made equal."""
    text = re.sub(r'^(Did you mean.*|exit status \d+)\n', '', text, flags=re.M)
    text = re.sub(r'\bdocker\b', 'berth', text)
    text = re.sub(r'Docker\b', 'Berth', text)
    text = re.sub(r'\b[0-9a-f]{64}\b', 'ID64', text)
    text = re.sub(r'\b[0-9a-f]{12}\b', 'ID', text)
    text = re.sub(AGES + ' ago', 'AGE ago', text)
    text = re.sub('Up ' + AGES, 'Up AGE', text)
    text = re.sub(r'(\[::1\]|127\.0\.0\.1):\d+->', r'\1:PORT->', text)
    text = re.sub(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*Z', 'TIME', text)
    return text


def loose(text):
    """And columns, whose width an age may have changed."""
    return re.sub(r'[ \t]+', ' ', same(text))


def filled(value):
    """Without what says nothing."""
    if isinstance(value, dict):
        return {key: filled(item) for key, item in value.items() if filled(item)}
    return value


class Pair:
    """Calls both clients. NAME in the arguments is a name that each has for itself."""

    def __init__(self, docker):
        self.docker = docker
        self.berth = Docker(docker.engine, BERTH, docker.folder)
        self.count = 0

    def run(self, client, arguments, **options):
        theirs = client is self.docker
        name, subnet = (f'pair{self.count}d', '10.231') if theirs else (f'pair{self.count}b', '10.232')
        result = client(*[word.replace('NAME', name).replace('SUBNET', subnet) for word in arguments], **options)
        result.out, result.err = (text.replace(name, 'NAME').replace(subnet, 'SUBNET') for text in (result.out, result.err))
        return result

    def __call__(self, *arguments, normal=same, **options):
        theirs, ours = (self.run(client, arguments, **options) for client in (self.docker, self.berth))
        assert ours.code == theirs.code, (arguments, theirs, ours)
        assert normal(ours.out) == normal(theirs.out), arguments
        assert normal(ours.err) == normal(theirs.err), arguments
        return ours

    def next(self):
        self.count += 1


@pytest.fixture(scope='module')
def pair(docker):
    if int(docker.ok('version', '--format', '{{.Client.Version}}').split('.')[0]) < 28:
        pytest.skip('the client is older than the one berth is compared with')
    return Pair(docker)


@pytest.fixture
def both(pair):
    pair.next()
    yield pair
    for letter in 'db':
        pair.docker('rm', '-fv', f'pair{pair.count}{letter}')


@pytest.fixture
def box(docker, pair):
    """A running container with something in every column."""
    options = ['-l', 'one=1', '-l', 'two=<2>', '-e', 'FOO=bar', '-w', '/tmp', '-h', 'boxhost', '--tmpfs', '/run']
    docker.ok('run', '-d', '--name', 'clibox', *options, 'bb', 'sh', '-c', 'echo out; echo err >&2; exec sleep 1000')
    yield 'clibox'
    docker('rm', '-fv', 'clibox')


# ---- what is wrong on the command line ------------------------------------------------------------------------------

@pytest.mark.parametrize('line', [
    'nosuch', 'container nosuch', 'network rmm', 'rm', 'kill', 'stop', 'rename a', 'rename a b c', 'port', 'port a b c', 'ps x', 'version x', 'run', 'exec', 'exec a',
    'tag a', 'history', 'network create', 'ps --nosuch', 'ps -z', 'ps -az', 'ps -n', 'ps -n x', 'ps --last', 'ps --all=maybe',
    'ps --filter x', 'ps --filter x=y', 'images --filter x=y', 'run --nosuch bb', 'run -m x bb', 'run --cpus x bb', 'run -e', 'run --network', 'run --pull x bb',
    'run -p x:y bb', 'run -p 1-3:1-2 bb', 'run --ulimit x=1 bb', 'run --mount type=bind bb', 'run --mount typ=bind,target=/x bb',
    'run --restart x:y bb', 'run --rm --restart always bb', 'run --memory-swappiness 200 bb', 'run --env-file /nosuch bb', 'run --security-opt x bb',
    'run --device x bb', 'run --expose a:b bb', 'run -a x bb', 'run --health-interval x bb', 'run -d -a stdout bb',
    'run --name x/y bb', 'create --nosuch bb', 'create -p x:y bb', 'run --no-healthcheck --health-cmd x bb', 'run Not/Valid', 'stop nosuch', 'rm nosuch',
    'rm -f nosuch', 'start nosuch', 'logs nosuch', 'exec nosuch ls', 'attach nosuch', 'top nosuch', 'port nosuch', 'wait nosuch', 'pause nosuch',
    'inspect nosuch', 'inspect nosuch othername', 'container inspect nosuch', 'image inspect nosuch', 'network inspect nosuch', 'volume inspect nosuch',
    'inspect --type image nosuch', 'inspect --type x nosuch', 'rmi nosuch', 'rmi -f nosuch', 'history nosuch', 'tag nosuch x', 'save nosuch', 'volume rm nosuch', 'volume rm -f nosuch',
    'network rm nosuch', 'kill nosuch', 'rename nosuch x', 'restart nosuch', 'update nosuch', 'cp a b', 'cp a:b c:d', 'cp nosuch:/x /tmp', 'stats --no-stream nosuch',
    'diff nosuch', 'commit nosuch', 'export nosuch', 'load -i /nosuch', 'import /nosuch x', 'pull -a bb:latest', 'pull UPPER', 'push nosuch',
    'run -it bb true', 'ps --format {{.Foo}}', 'ps --format {{.ID', 'ps --format {{end}}', 'ps --format {{nosuch}}', 'ps --format {{if}}', 'version --format {{.Foo}}',
    'images --format {{.Foo}}', 'events --format {{.ID', 'inspect -f {{.Foo bb', 'inspect -f {{.Foo}} bb', 'inspect -f {{.Config.Foo}} bb', 'inspect -f {{index}} bb',
    'logs --since x nosuch', 'login -u x', 'login -u x -p y --password-stdin',
])
def test_errors(pair, line):
    pair(*line.split(' '))


def test_what_was_perhaps_meant(pair):
    for wrong, right in [('imags', 'images'), ('strat', 'start'), ('contaner', 'container'), ('inspct', 'inspect'), ('network crate', 'create')]:
        assert f"Did you mean 'berth {wrong.split(' ')[0] + ' ' if ' ' in wrong else ''}{right}'?" in pair.berth(*wrong.split(' ')).err
    assert 'Did you mean --detach?' in pair.berth('run', '--detatch', 'bb').err
    assert 'Did you mean' not in pair.berth('xyzzy').err


# ---- lists ----------------------------------------------------------------------------------------------------------

TEMPLATES = [
    '{{.Names}}', '{{.ID}} {{.Image}}', 'table {{.Names}}\t{{.Image}}', r'table {{.Names}}\t{{.Label "one"}}\t{{.Labels}}', 'json', '{{json .}}', '{{json .Names}}',
    '{{.Label "one"}}|{{.Label "none"}}', '{{upper .Names}} {{lower "ABC"}} {{title "a word"}}', '{{if eq .Names "clibox"}}yes{{else}}no{{end}}',
    '{{range $i, $w := split .Image ""}}{{$i}}{{$w}} {{end}}', '{{printf "%-12s|%5d|%q|%v|%x" .Names 7 .Image true 255}}', '{{len .Names}} {{slice .Image 0 2}} {{index (split .Labels ",") 0}}',
    '{{.State}} {{.Mounts}} {{.LocalVolumes}} {{.Networks}} {{.Ports}} {{.Command}}', '{{with .Names}}{{.}}{{end}} {{- /* x */ -}} end', '{{pad .Names 2 3}}|{{truncate .Names 3}}|{{join (split "a,b" ",") "-"}}',
    '{{$x := .Names}}{{$x}}{{$x = "y"}}{{$x}}', '{{and .Names "b"}} {{or "" .Names}} {{not .Names}}', '{{.Names | upper | printf "%s!"}}', 'table', 'raw', '{{"a\\tb"}} {{`raw`}} {{print 1 2 "x" 3}}',
    '{{html "<a>"}} {{urlquery "a b"}} {{1.5}} {{true}} {{println "x"}}', '{{ne .Names "x"}} {{lt 1 2}} {{ge 2 2}} {{le "a" "b"}} {{gt 1 2}}', '',
    'table {{upper .Names}}\t{{len .ID}}', '{{.CreatedAt}}', '{{range split .Names "i"}}[{{.}}]{{else}}none{{end}}', '{{if not .Ports}}none{{else if eq 1 1}}x{{end}}',
]


@pytest.mark.parametrize('template', TEMPLATES)
def test_ps_format(pair, box, template):
    pair('ps', '--filter', 'name=clibox', '--format', template, normal=loose)


@pytest.mark.parametrize('line', ['ps', 'ps -a', 'ps -q', 'ps -aq', 'ps --no-trunc', 'ps -s', 'ps -l', 'ps -n 1', 'ps -n 1 -q', 'ps --filter label=one=1 -q', 'ps --filter name=none',
                                  'container ls', 'container list -a', 'container ps', 'ps -q --no-trunc', 'ps --filter status=running --filter label=one'])
def test_ps(pair, box, line):
    pair(*line.split(' '), normal=loose)


@pytest.mark.parametrize('line', [
    'images', 'images -q', 'images --no-trunc', 'images --digests', 'images -a', 'images bb', 'images none', 'images bb:latest', 'image ls', 'image list', 'images --format json',
    'images --format {{.Repository}}:{{.Tag}}', r'images --format table\ {{.ID}}\t{{.Size}}', 'images --filter reference=bb', 'images --filter dangling=true', 'images --format {{json.}}',
    'images --format {{.CreatedAt}}|{{.CreatedSince}}|{{.Digest}}|{{.SharedSize}}|{{.VirtualSize}}', 'history bb', 'history -q bb', 'history --no-trunc bb', 'history -H=false bb', 'history --format json bb',
    'history --format {{.ID}}|{{.CreatedBy}}|{{.CreatedAt}}|{{.Size}} bb', 'network ls', 'network ls -q', 'network ls --no-trunc', 'network ls --format {{.Name}}|{{.Driver}}|{{.IPv6}}|{{.Internal}}',
    'network ls --filter driver=bridge', 'network ls --format json', 'network list', 'system df', 'system df --format {{.Type}}|{{.Size}}', 'system df --format json', 'image inspect bb', 'image inspect bb --format {{.Id}}',
    'image inspect bb -f {{.RootFS.Type}}|{{len\u00a0.RootFS.Layers}}|{{.Config.Env}}|{{.Architecture}}', 'network inspect bridge', 'network inspect bridge none -f {{.Name}}', 'inspect bridge bb --format {{.Id}}', 'volume ls',
    'volume ls -q', 'images -f dangling=false -q', 'info --format {{.OSType}}|{{.NCPU}}|{{.Driver}}', 'info --format {{json\u00a0.Plugins.Volume}}', 'version --format {{.Server.Os}}|{{.Server.Version}}',
    'version --format {{json\u00a0.Server}}', 'info -f {{range\u00a0.SecurityOptions}}{{println\u00a0.}}{{end}}', 'search --limit 0 --nosuch x', 'version --format {{.Client.APIVersion}}', 'image ls --format {{.Foo',
])
def test_lists(pair, line):
    pair(*[word.replace('\u00a0', ' ').replace('\\ ', ' ') for word in re.split(r'(?<!\\) ', line)], normal=same)


INSPECT = [
    '{{.State.Running}} {{.State.ExitCode}} {{.State.Paused}}', '{{json .Config.Env}}', '{{.Config.Env}}', '{{range .Config.Env}}{{println .}}{{end}}', '{{.Config.Labels}}', '{{index .Config.Labels "one"}}',
    '{{index .Config.Labels "none"}}', '{{.Config.Labels.one}} {{.Config.Labels.none}}', '{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}', '{{.Name}} {{.Path}} {{.Args}}', '{{len .Mounts}} {{.Mounts}}',
    '{{.HostConfig.NetworkMode}} {{.HostConfig.Memory}} {{.HostConfig.CapAdd}}', '{{if .State.Health}}has{{else}}none{{end}}', '{{.HostConfig.RestartPolicy.Name}}', '{{.Config.Cmd}} {{.Config.Entrypoint}}',
    '{{json .HostConfig.CapAdd}} {{json .Config.Cmd}} {{json .State.Running}} {{json .HostConfig.Tmpfs}}', '{{.ID}}', '{{.Id}}', '{{.Config.Hostname}}.{{.Config.WorkingDir}}', '{{.HostConfig.PortBindings}} {{.NetworkSettings.Ports}}',
    '{{range $n, $c := .NetworkSettings.Networks}}{{$n}} {{len $c.IPAddress}}{{end}}', '{{json .Config.Labels}}', '{{.State.Foo}}', '{{.Nope.Foo}}', '{{index .Config.Env 0}}', '{{index .Config.Env 99}}', '{{.State.Running.Foo}}',
    '{{with .State}}{{.Status}}{{end}}', '{{eq .State.Status "running"}} {{ne .State.ExitCode 0}}', '{{.HostConfig.Tmpfs}}', '{{range .Mounts}}x{{else}}no mounts{{end}}', '{{.RestartCount}} {{.Driver}} {{.Platform}}', '{{json .Mounts}}',
    '{{join .Config.Cmd " "}}', '{{.HostConfig.LogConfig.Type}}', '{{slice .Id 0 4 | len}}', '{{range $i, $e := .Config.Cmd}}{{if $i}}, {{end}}{{$e}}{{end}}', '{{range .Config.Cmd}}{{if eq . "-c"}}{{continue}}{{end}}{{.}}{{break}}{{end}}',
    'json', '{{.SizeRw}}', '{{.HostConfig.Isolation}}', '{{.Created | len}}',
]


@pytest.mark.parametrize('template', INSPECT)
def test_inspect_format(pair, box, template):
    pair('inspect', '--format', template, box)


@pytest.mark.parametrize('line', ['inspect clibox', 'container inspect clibox', 'inspect clibox nosuch', 'inspect -s -f {{.SizeRw}} clibox', 'inspect --type container clibox', 'inspect --type network clibox', 'logs clibox',
                                  'logs -t clibox', 'logs --tail 1 clibox', 'logs -n 0 clibox', 'logs --since 1h clibox', 'logs --until 1h clibox', 'port clibox', 'port clibox 80', 'port clibox x', 'top clibox -o pid,args',
                                  'exec clibox sh -c exit\u00a07', 'exec clibox pwd', 'exec -w /etc clibox pwd', 'exec -u 1000:1000 clibox id', 'exec -e X=y clibox sh -c echo\u00a0$X', 'exec clibox nosuchcommand',
                                  'exec clibox sh -c echo\u00a0a;echo\u00a0b>&2', 'exec -d clibox true', 'exec -it clibox true', 'exec --privileged=false clibox true', 'start clibox', 'unpause clibox',
                                  'rm clibox', 'stop -t x clibox', 'kill -s NOSUCH clibox', 'restart --nosuch clibox', 'container prune --filter x -f', 'rename clibox bad/name', 'update clibox'])
def test_a_running_container(pair, box, line):
    normal = (lambda text: re.sub(r'"(Pid|SizeRw|RefCount)": \d+', '', loose(text))) if 'top' in line or 'inspect' in line else same
    pair(*[word.replace('\u00a0', ' ') for word in line.split(' ')], normal=normal)


# ---- verbs that change something ------------------------------------------------------------------------------------

def test_a_life(both):
    both('create', '--name', 'NAME', '-l', 'a=b', 'bb', 'sleep', '1000')
    both('start', 'NAME')
    both('start', 'NAME')
    both('pause', 'NAME')
    both('pause', 'NAME')
    both('exec', 'NAME', 'true')
    both('unpause', 'NAME')
    both('rm', 'NAME')
    both('restart', '-t', '0', 'NAME')
    both('kill', '-s', 'HUP', 'NAME', normal=same)
    both('stop', '-t', '0', 'NAME')
    both('wait', 'NAME')
    both('attach', 'NAME')
    both('logs', 'NAME')
    both('rename', 'NAME', 'NAMEx')
    both('rm', 'NAMEx', 'NAME')


RUNS = [
    ['bb', 'echo', 'hello'], ['bb', 'sh', '-c', 'echo a; echo b >&2; exit 3'], ['bb', '/nosuch'], ['bb', 'nosuch'], ['bb', '/etc/not-a-program'], ['bb', '/etc'], ['-e', 'A=1', '-e', 'HOME', 'bb', 'sh', '-c', 'echo $A $HOME'],
    ['-w', '/tmp', '-u', '1000', 'bb', 'sh', '-c', 'pwd; id'], ['-h', 'abc', 'bb', 'hostname'], ['--entrypoint', '/bin/echo', 'bb', 'x'], ['--entrypoint=', 'bb', 'echo', 'y'], ['-m', '64m', 'bb', 'true'], ['--init', '--read-only', 'bb', 'touch', '/x'],
    ['--cap-drop', 'ALL', '--security-opt', 'no-new-privileges', 'bb', 'grep', 'CapEff', '/proc/self/status'], ['--tmpfs', '/t:size=1m', 'bb', 'sh', '-c', 'grep " /t " /proc/mounts | cut -c1-20'], ['--ulimit', 'nofile=100:200', 'bb', 'sh', '-c', 'ulimit -n'],
    ['--network', 'none', 'bb', 'true'], ['-a', 'stderr', 'bb', 'sh', '-c', 'echo a; echo b >&2'], ['--add-host', 'x=1.2.3.4', 'bb', 'grep', 'x', '/etc/hosts'], ['--sysctl', 'net.ipv4.ip_forward=1', 'bb', 'cat', '/proc/sys/net/ipv4/ip_forward'],
    ['--dns', '9.9.9.9', '--dns-search', 'ex.org', '--dns-option', 'ndots:2', 'bb', 'cat', '/etc/resolv.conf'], ['--name', 'NAME', 'bb', 'true'], ['--memory', '1', 'bb', 'true'], ['--stop-signal', 'x', 'bb', 'true'], ['--label', 'a', '--label', 'b=c=d', 'bb', 'true'],
    ['--mount', 'type=tmpfs,target=/q,tmpfs-size=2m,tmpfs-mode=1770', 'bb', 'stat', '-c', '%a', '/q'], ['--shm-size', '8m', 'bb', 'sh', '-c', 'df -k /dev/shm | tail -1 | awk "{print \\$2}"'], ['-P', '--expose', '81-82/udp', 'bb', 'true'], ['nosuchimage:x', 'true'], ['--pull', 'never', 'nosuch', 'true'],
    ['-v', 'relative', 'bb', 'true'], ['-v', 'x:y:z:w', 'bb', 'true'], ['--network', 'nosuch', 'bb', 'true'], ['--log-driver', 'nosuch', 'bb', 'true'], ['-p', '70000:1', 'bb', 'true'], ['--isolation', 'nosuch', 'bb', 'true'], ['--pid', 'x', 'bb', 'true'],
]


@pytest.mark.parametrize('arguments', RUNS, ids=' '.join)
def test_run(both, arguments):
    both('run', '--rm', *arguments)


def test_run_with_input(both):
    both('run', '--rm', '-i', 'bb', 'cat', input='some text\nof two lines')
    both('run', '--rm', '-i', 'bb', 'wc', '-c', input='x' * 3_000_000)
    both('run', '--rm', 'bb', 'cat', input='not read')
    both('run', '--rm', '-i', 'bb', 'true', input='x' * 1_000_000)


def test_run_detached_and_what_is_made_of_it(both):
    for arguments in (['--network', 'bridge'], ['--network', 'name=bridge,alias=x'], ['--network', 'none', '--network', 'x'], ['-p', '127.0.0.1::80', '-p', '53/udp'], ['--restart', 'no'], ['--cpus', '0.5', '--memory', '64m', '--pids-limit', '50'],
                      ['--stop-timeout', '3', '--stop-signal', 'INT', '--domainname', 'd.org'], ['--group-add', '7', '--oom-score-adj', '500', '--cpu-shares', '512'],
                      ['--network-alias', 'x'], ['--cidfile', '/nosuch/file'], ['--health-cmd', 'true'], ['--no-healthcheck'], ['-e', 'NOSUCHVARIABLE'], ['--blkio-weight', '100']):
        both('run', '-d', '--name', 'NAME', *arguments, 'bb', 'sleep', '1000')
        configs = []
        for letter, client in (('d', both.docker), ('b', both.berth)):
            text = client('inspect', f'pair{both.count}{letter}').out
            object = json.loads(text)[0] if text.startswith('[') and len(text) > 4 else {}
            object.get('HostConfig', {}).pop('ContainerIDFile', None)
            configs.append(re.sub(r'[0-9a-f]{12,64}', '', json.dumps([filled(object.get(part)) for part in ('Config', 'HostConfig', 'Mounts', 'Path', 'Args')], sort_keys=True)))
        assert configs[0] == configs[1], arguments
        for letter in 'db':
            both.docker('rm', '-f', f'pair{both.count}{letter}')


def test_images_that_change(both, busybox, tmp_path):
    (tmp_path / 'bb.tar').write_bytes(busybox)
    (tmp_path / 'root.tar').write_bytes(images.tar([images.folder('etc'), images.entry('etc/x', data=b'x')]))
    both('load', '-i', str(tmp_path / 'bb.tar'))
    both('load', input=busybox)
    both('load', '-q', input=busybox)
    both('load', input=b'not a tar')
    both('tag', 'bb', 'NAME:one')
    both('images', '--format', '{{.Repository}}:{{.Tag}}', 'NAME')
    both('save', '-o', str(tmp_path / 'saved.tar'), 'NAME:one')
    both('rmi', 'NAME:one')
    both('import', '-c', 'CMD ["x"]', '-m', 'words', str(tmp_path / 'root.tar'), 'NAME:two', normal=lambda text: re.sub('sha256:ID64', '', same(text)))
    both('image', 'inspect', '-f', '{{.Config.Cmd}} {{.Comment}}', 'NAME:two')
    both('rmi', 'NAME:two', normal=lambda text: re.sub('Deleted: .*\n', '', same(text)))
    both.docker('image', 'prune', '-f')  # what other tests have left, which only the first of the two would find
    both('image', 'prune', '-f')


def test_volumes(both):
    both('volume', 'create', '--label', 'a=NAME', 'NAME')
    both('volume', 'ls', '--filter', 'label=a=NAME', '-q')
    both('volume', 'ls', '--filter', 'label=a=NAME')
    both('volume', 'ls', '--filter', 'label=a=NAME', '--format', '{{.Name}}|{{.Labels}}|{{.Label "a"}}|{{.Scope}}|{{.Size}}')
    both('volume', 'inspect', '-f', '{{.Name}} {{.Driver}} {{.Labels}} {{.Options}} {{.Scope}}', 'NAME')
    both('volume', 'rm', 'NAME')
    both('volume', 'prune', '-f', '--filter', 'label=nosuch')
    both('volume', 'create', '--driver', 'nosuch', 'NAME')
    both('system', 'prune', input='n\n')
    both('container', 'prune', input='n\n')


def test_networks(both):
    """Where the daemon has networks of one's own, what they are; else both are told so."""
    both('network', 'create', '--subnet', 'SUBNET.0.0/16', '--gateway', 'SUBNET.0.1', '--ip-range', 'SUBNET.1.0/24', '--label', 'a=b', '-o', 'com.docker.network.bridge.enable_icc=true', 'NAME')
    both('network', 'inspect', '-f', '{{json .IPAM}} {{.Internal}} {{.Labels}} {{.Options}} {{.Driver}} {{.Attachable}}', 'NAME')
    both('network', 'ls', '--filter', 'name=NAME', '--format', '{{.Name}}|{{.Labels}}')
    both('run', '-d', '--name', 'NAME', '--network', 'NAME', '--network-alias', 'other', '--ip', 'SUBNET.7.7', 'bb', 'sleep', '1000')
    both('inspect', '-f', '{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{$e.IPAddress}}{{end}}', 'NAME')
    both('network', 'disconnect', 'NAME', 'NAME')
    both('network', 'connect', '--alias', 'x,y', '--ip', 'SUBNET.7.8', 'NAME', 'NAME')
    both('inspect', '-f', '{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{$e.IPAddress}}{{end}}', 'NAME')
    both('network', 'rm', 'NAME')
    both('rm', '-f', 'NAME')
    both('network', 'rm', 'NAME')
    both('network', 'create', '--internal', '--ipv6=false', '-d', 'nosuchdriver', 'NAME')
    both('network', 'prune', '-f', '--filter', 'label=nosuch')


def test_proxies_of_the_configuration(pair, tmp_path):
    (tmp_path / 'config.json').write_text(json.dumps({'proxies': {'default': {'httpProxy': 'http://p:1', 'noProxy': 'x,y'}}}))
    def variables(text):
        return '\n'.join(sorted(text.splitlines()))
    pair('--config', str(tmp_path), 'run', '--rm', '-h', 'x', '-e', 'A=b', 'bb', 'env', normal=variables)


# ---- alone ----------------------------------------------------------------------------------------------------------

@pytest.fixture
def berth(pair):
    return pair.berth


def test_every_command_has_help(berth):
    names = re.findall(r'^  ([a-z]+) ', berth.ok('--help'), re.M)
    assert {'run', 'ps', 'container', 'stats', 'volume'} <= set(names)
    for name in names:
        text = berth.ok(name, '--help')
        assert text.startswith('Usage:  berth ' + name), text
        for inner in re.findall(r'^  ([a-z]+) ', text.split('Commands:')[1], re.M) if 'Commands:' in text else []:
            assert berth.ok(name, inner, '--help').startswith(f'Usage:  berth {name} {inner}')


def test_every_flag_of_docker_is_known(pair):
    """Each flag of each command that both have, by docker's own help."""
    for name in ['container ' + word for word in re.findall(r'^  ([a-z]+) ', pair.docker.ok('container', '--help'), re.M)] + [
            'images', 'image inspect', 'image prune', 'history', 'import', 'load', 'pull', 'push', 'rmi', 'save', 'tag', 'search', 'login', 'logout', 'events', 'info', 'inspect', 'version', 'system df',
            'system prune', 'network create', 'network connect', 'network disconnect', 'network ls', 'network rm', 'network inspect', 'network prune', 'volume create', 'volume ls', 'volume rm', 'volume inspect',
            'volume prune', 'builder prune']:
        def flags(client):
            return set(re.findall(r'^ +(-\w, )?(--[a-z0-9-]+)', client.ok(*name.split(' '), '--help'), re.M))
        missing = {flag for flag in flags(pair.docker) if flag[1] != '--help'} - flags(pair.berth)
        assert not missing, (name, missing)


@pytest.mark.parametrize('arguments, why', [
    (['run', '--use-api-socket', 'bb'], '--use-api-socket'), (['run', '--disable-content-trust=false', 'bb'], '--disable-content-trust'),
    (['run', '--cpu-count', '2', 'bb'], '--cpu-count'), (['swarm', 'init'], 'swarm'), (['plugin', 'ls'], 'plugin'),
])
def test_what_is_refused_is_named(berth, arguments, why):
    result = berth(*arguments)
    assert result.code in (1, 125) and result.out == '' and len(result.err.splitlines()) == 1 and why in result.err


def test_help_of_a_command_both_ways(berth):
    assert berth.ok('help', 'ps') == berth.ok('ps', '--help') == berth.ok('ps', '-q', '--help')
    assert berth.ok('help', 'container', 'ls').startswith('Usage:  berth container ls')


def test_debug_shows_the_requests_and_the_configuration_adds_headers(berth, tmp_path):
    (tmp_path / 'config.json').write_text(json.dumps({'HttpHeaders': {'X-Meta': 'a', 'Bad\r\nX': 'b', 'Also': 'bad\nX: y'}}))
    result = berth('-D', '--config', str(tmp_path), 'ps', '-q')
    assert result.code == 0 and re.search(r'^GET /v1\.\d+/containers/json', result.err, re.M)


def test_no_daemon(berth, tmp_path):
    for host in (f'unix://{tmp_path}/none', 'tcp://127.0.0.1:1'):
        result = subprocess.run([BERTH, '-H', host, 'ps'], capture_output=True, text=True)
        assert result.returncode == 1 and result.stderr == f'Cannot connect to the Docker daemon at {host}. Is the docker daemon running?\n'
    result = subprocess.run([BERTH, '-H', 'ssh://x', 'ps'], capture_output=True, text=True)
    assert result.returncode == 1 and 'ssh://x' in result.stderr
