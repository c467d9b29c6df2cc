import { CompactEncrypt, compactDecrypt, importJWK } from 'jose'
import { openJwe } from '../../src/jwe/open.js'
import { sealJwe } from '../../src/jwe/seal.js'
import { importRecipient } from '../../src/jwe/recipient.js'
import { RECIPIENT, RECIPIENT_PRIVATE, SAMPLE, SAMPLE_PLAINTEXT, softwareKey, utf8 } from './support.js'
const key = await softwareKey()
const jp = await importJWK({...RECIPIENT_PRIVATE},'ECDH-ES'), jpub = await importJWK({...RECIPIENT},'ECDH-ES')
const r = importRecipient(RECIPIENT)
const plaintext = utf8(SAMPLE_PLAINTEXT)
const fs = {
 joseOpen:()=>compactDecrypt(SAMPLE,jp), open:()=>openJwe({jwe:SAMPLE,keys:key}),
 joseSeal:()=>new CompactEncrypt(plaintext).setProtectedHeader({alg:'ECDH-ES',enc:'A256GCM',kid:RECIPIENT.kid}).encrypt(jpub), seal:()=>sealJwe({plaintext,recipient:r}), sealJwk:()=>sealJwe({plaintext,recipient:RECIPIENT}) } as Record<string,()=>Promise<unknown>>
const times:Record<string,number[]>={}
for (let round=0;round<14;round++) for (const [n,f] of Object.entries(fs)) { const s=process.hrtime.bigint(); for(let i=0;i<150;i++) await f(); if(round>3)(times[n]??=[]).push(Number(process.hrtime.bigint()-s)/150/1000) }
const med=(n:string)=>times[n]!.sort((a,b)=>a-b)[5]!
for (const n in fs) console.log(n, med(n).toFixed(0),'us median')
console.log('open x',(med('joseOpen')/med('open')).toFixed(2),'seal x',(med('joseSeal')/med('seal')).toFixed(2),(med('joseSeal')/med('sealJwk')).toFixed(2))
