// What users of dockerode do. Usage: node dockerode.js TEST IMAGE
'use strict';
const assert = require('node:assert');
const stream = require('node:stream');
const Docker = require('dockerode');

const [, , wanted, image] = process.argv;
const docker = new Docker({ socketPath: process.env.DOCKER_HOST.replace('unix://', '') });
const tests = {};

function collector() {
    const parts = [];
    const sink = new stream.Writable({ write(chunk, _encoding, done) { parts.push(chunk); done(); } });
    sink.text = () => Buffer.concat(parts).toString();
    return sink;
}

async function started(options) {
    const container = await docker.createContainer({ Image: image, ...options });
    await container.start();
    return container;
}

tests.version_and_info = async () => {
    assert.ok((await docker.version()).ApiVersion);
    assert.strictEqual((await docker.info()).OSType, 'linux');
    assert.strictEqual((await docker.ping()).toString(), 'OK');
};

tests.run = async () => {
    const out = collector();
    const err = collector();
    const [result] = await docker.run(image, ['sh', '-c', 'echo out; echo err >&2; exit 5'], [out, err], { Tty: false, HostConfig: { AutoRemove: true } });
    assert.strictEqual(result.StatusCode, 5);
    assert.strictEqual(out.text(), 'out\n');
    assert.strictEqual(err.text(), 'err\n');
};

tests.exec_with_input = async () => {
    const container = await started({ Cmd: ['sleep', '60'] });
    const exec = await container.exec({ Cmd: ['cat'], AttachStdin: true, AttachStdout: true });
    const connection = await exec.start({ hijack: true, stdin: true });
    const out = collector();
    docker.modem.demuxStream(connection, out, out);
    connection.write('typed\n');
    connection.end();
    await new Promise((done) => connection.on('end', done));
    assert.strictEqual(out.text(), 'typed\n');
    assert.strictEqual((await exec.inspect()).ExitCode, 0);
    await container.remove({ force: true });
};

tests.attach_before_start = async () => {
    const container = await docker.createContainer({ Image: image, Cmd: ['cat'], OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true });
    const connection = await container.attach({ stream: true, stdin: true, stdout: true, hijack: true });
    const out = collector();
    container.modem.demuxStream(connection, out, out);
    await container.start();
    connection.end('through\n');
    assert.strictEqual((await container.wait()).StatusCode, 0);
    assert.strictEqual(out.text(), 'through\n');
    await container.remove();
};

tests.logs_follow = async () => {
    const container = await started({ Cmd: ['sh', '-c', 'for i in 1 2 3; do echo $i; sleep 0.1; done'], Tty: true });
    const out = collector();
    await stream.promises.finished((await container.logs({ follow: true, stdout: true })).pipe(out));
    assert.strictEqual(out.text(), '1\r\n2\r\n3\r\n');
    await container.remove();
};

tests.inspect_list_and_errors = async () => {
    const container = await started({ name: 'one', Cmd: ['sleep', '60'], Labels: { test: 'one' } });
    assert.strictEqual((await container.inspect()).Name, '/one');
    const list = await docker.listContainers({ filters: { label: ['test=one'] } });
    assert.deepStrictEqual(list.map((found) => found.Names), [['/one']]);
    await assert.rejects(docker.createContainer({ Image: image, name: 'one' }), { statusCode: 409 });
    await assert.rejects(docker.getContainer('nobody').inspect(), { statusCode: 404, reason: 'no such container' });
    await container.stop({ t: 0 });
    await container.remove();
};

tests.stats = async () => {
    const container = await started({ Cmd: ['sleep', '60'] });
    assert.ok((await container.stats({ stream: false })).memory_stats.usage > 0);
    await container.remove({ force: true });
};

tests.archive = async () => {
    const container = await started({ Cmd: ['sleep', '60'] });
    const whole = await stream.promises.pipeline(await container.getArchive({ path: '/etc/passwd' }), async (chunks) => {
        const parts = [];
        for await (const chunk of chunks) parts.push(chunk);
        return Buffer.concat(parts);
    });
    assert.ok(whole.includes('root:x:0:0'));
    await container.putArchive(whole, { path: '/tmp' });
    const exec = await container.exec({ Cmd: ['cat', '/tmp/passwd'], AttachStdout: true });
    const out = collector();
    const connection = await exec.start({});
    docker.modem.demuxStream(connection, out, out);
    await new Promise((done) => connection.on('end', done));
    assert.ok(out.text().includes('root:x:0:0'));
    await container.remove({ force: true });
};

tests.events = async () => {
    const events = await docker.getEvents({ filters: { type: ['container'], event: ['destroy'] } });
    const seen = new Promise((done) => events.once('data', (data) => done(JSON.parse(data))));
    await (await docker.createContainer({ Image: image, name: 'brief' })).remove();
    assert.strictEqual((await seen).Actor.Attributes.name, 'brief');
    events.destroy();
};

tests.networks_and_volumes = async () => {
    const network = await docker.createNetwork({ Name: 'own', Labels: { test: 'own' } });
    const volume = await docker.createVolume({ Name: 'own' });
    const container = await started({ name: 'member', Cmd: ['sleep', '60'], HostConfig: { NetworkMode: 'own', Binds: ['own:/data'] } });
    const members = Object.values((await network.inspect()).Containers).map((member) => member.Name);
    assert.deepStrictEqual(members, ['member']);
    await container.remove({ force: true });
    await network.remove();
    await docker.getVolume(volume.name || volume.Name).remove();
};

tests.images = async () => {
    await docker.getImage(image).tag({ repo: 'again', tag: '1' });
    const tags = (await docker.listImages()).flatMap((found) => found.RepoTags);
    assert.ok(tags.includes('again:1'));
    assert.ok((await docker.getImage('again:1').history()).length > 0);
    await docker.getImage('again:1').remove();
};

tests[wanted]().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
