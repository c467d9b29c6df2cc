#!/usr/bin/env node
/** The program `d1-simulator`. */
import process from 'node:process'
import { runIn } from './program.js'

runIn(process)
